"""What a pass computes a second time, instead of keeping it for the backward pass.

A product of M × K and K × N costs 2 K FLOPs for each number that it gives, attention over L tokens
4 L: the more it costs, the more pays keeping it. Products with N > K, such as those that widen an
MLP, give the most numbers and are the cheapest to make again. In Qwen2-VL-7B keeping the others
takes 7 GiB of 9,000 tokens and saves half of what is computed again; in Wan2.2-Animate-14B, with
32,760 tokens, it takes 104 GiB, but self-attention alone 12.4, and that is half of it too.
"""

import re
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from spark_trainer.config.optimization import Recomputed

if TYPE_CHECKING:
    import torch

PRODUCTS = ("mm", "addmm", "bmm")


def every_nth(how: Recomputed) -> int:
    """Return n, where every n-th layer is computed again."""
    return 1 if isinstance(how, str) else int(how)


def options(how: Recomputed) -> dict[str, Any]:
    """Return the options of `torch.utils.checkpoint.checkpoint` for one layer."""
    from torch.utils.checkpoint import create_selective_checkpoint_contexts

    chosen: dict[str, Any] = {"use_reentrant": False}
    if isinstance(how, str):
        kept = partial(_kept, how)
        chosen["context_fn"] = partial(create_selective_checkpoint_contexts, kept)
    return chosen


def checkpoint_network(model: Any, others: str, how: Recomputed) -> None:
    """Turn on diffusers' gradient checkpointing, and that of the modules that it leaves out.

    Args:
        model: the network.
        others: expression over the full names of those modules.
        how: what of them is computed again; n takes every n-th one of each class.
    """
    from torch.utils.checkpoint import checkpoint

    places, every = _places(model), every_nth(how)
    again = partial(checkpoint, **options(how))

    def call(module: Any, *args: Any) -> Any:
        return module(*args) if places[module] % every else again(module, *args)

    model.enable_gradient_checkpointing(call)
    for name, module in model.named_modules():
        if re.fullmatch(others, name) and places[module] % every == 0:
            module.forward = partial(again, module.forward)


def _places(model: "torch.nn.Module") -> "dict[torch.nn.Module, int]":
    """Return the place of each module among those of its class, in the order of the network."""
    found: dict[torch.nn.Module, int] = {}
    counts: Counter[type] = Counter()
    for module in model.modules():
        found[module] = counts[type(module)]
        counts[type(module)] += 1
    return found


def _kept(how: str, context: Any, operation: Any, *args: Any, **named: Any) -> bool:
    """Tell whether the output of one of torch's operations is kept.

    One that draws by chance is not: what is drawn after it would not be the same again.
    """
    name = operation.name().rpartition("::")[2].partition(".")[0]
    if name in PRODUCTS:
        *_, inside, width = args[-1].shape
        return bool(how == "selective" and width <= inside)
    if "attention" not in name and "attn" not in name:
        return False
    if name.startswith("_scaled_dot_product") and args[1].shape[-2] < args[0].shape[-2]:
        return False  # to a text or an image, which is short
    given = dict(zip((one.name for one in operation._schema.arguments), args, strict=False))
    return not (given | named).get("dropout_p")
