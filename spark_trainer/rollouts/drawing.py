"""Tokens from numbers that depend on nothing but the answer and the place in it.

So a rollout says the same whatever the batch, the number of processes, or a resume. Shapes: R
answers, L places in them, V vocabulary.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer.data import control
from spark_trainer.families.kinds import exchanges
from spark_trainer.families.kinds.loading import Loaded

if TYPE_CHECKING:
    import torch

BITS = 52  # of a number: it stays below 1, and below any sum that it is multiplied by


def numbers(keys: Sequence[str], length: int) -> "torch.Tensor":
    """Return numbers (R, L) in [0, 1) for answers of these keys, evenly spread.

    By the raw words of the counter-based generator Philox (Salmon et al. 2011), which numpy keeps
    the same in all its versions.
    """
    import numpy as np
    import torch

    rows = []
    for key in keys:
        words = np.random.Philox(key=_number(key)).random_raw(length) >> (64 - BITS)
        rows.append(words.astype(np.float64) / 2**BITS)
    return torch.from_numpy(np.stack(rows))


def key(update: int, seed: int, number: int) -> str:
    """Return what tells an answer from all others.

    Args:
        update: the number of the update, from 1.
        seed: that of the sample, a hash of the run's seed, the epoch, video and item.
        number: of the answer to the question.
    """
    return f"{update}:{seed}:{number}"


def seed(key: str) -> int:
    """Return a number below 2^63 for an answer of this key, as a server takes it for a seed."""
    return _number(key) >> 65


def _number(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "big")


def picked(log_RV: "torch.Tensor", numbers_R: "torch.Tensor") -> "torch.Tensor":
    """Return a token for each row (R): where the sum of probabilities passes the row's number."""
    import torch

    sums_RV = log_RV.double().exp().cumsum(dim=1)
    reached_R1 = (numbers_R * sums_RV[:, -1])[:, None]
    return torch.searchsorted(sums_RV, reached_R1, right=True).squeeze(1)


def allowed(loaded: Loaded, device: "torch.device") -> "torch.Tensor":
    """Tell of each token (V) whether an answer may hold it.

    Not what stands for frames, of which there would be more than the tower has seen, nor any other
    control token but those that end an answer, nor places of the vocabulary without a token.
    """
    import torch

    config, known = loaded.model.config, len(loaded.processor.tokenizer)
    size = config.get_text_config().vocab_size
    forbidden = control.ids(loaded.processor) | _named(config) | _named(config.get_text_config())
    places = [number for number in forbidden if number < size]
    found_V = torch.ones(size, dtype=torch.bool)
    found_V[known:] = False
    found_V[places] = False
    found_V[exchanges.ends(loaded)] = True
    return found_V.to(device)


def _named(config: Any) -> set[int]:
    """Return the tokens that a configuration names, such as `image_token_id`."""
    told = config.to_dict()
    named = (told[name] for name in told if name.endswith(("_token_id", "_token_index")))
    return {number for number in named if isinstance(number, int) and number >= 0}
