"""Answers of the network in training, generated in its own process.

The vision tower has seen the frames already, the prompt is read once for all its answers, and the
answers to several prompts are written together, a token of each at a time: their caches of keys and
values stand right-aligned, behind places that a mask hides. Shapes: R answers that are being
written, L places in them, V vocabulary.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from spark_trainer.config import Run
from spark_trainer.families.kinds import exchanges, towers
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.rollouts import drawing
from spark_trainer.rollouts.base import Answer, Rollout, Seen

if TYPE_CHECKING:
    import torch

_Some = TypeVar("_Some")
# Of each token that may come next: scores as they are made, scaled and normalised in float32, and
# three steps of their sums in float64.
SCORE_BYTES = 4 + 4 + 3 * 8


def memory_bytes(loaded: Loaded, run: Run, num_tokens: int) -> int:
    """Return what answers take beside the weights: keys and values of all tokens, and scores.

    Args:
        loaded: the model.
        run: the settings.
        num_tokens: of the answers that are written together, and their questions.
    """
    config, wide = loaded.model.config.get_text_config(), 4 if run.mixed_precision == "no" else 2
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each = 2 * config.num_hidden_layers * config.num_key_value_heads * width * wide
    return int(each * num_tokens + SCORE_BYTES * config.vocab_size * run.batch_size)


@dataclass(frozen=True)
class InProcess(Rollout):
    """Writes as many answers at a time as `batch_size` allows."""

    family: ChatModel
    loaded: Loaded
    run: Run

    def draw(
        self, model: Any, seen: Sequence[Seen], update: int, numbers: range
    ) -> list[list[Answer]]:
        found, together = list[list[Answer]](), max(1, self.run.batch_size // len(numbers))
        for some in _chunks(seen, together):
            keys = [
                drawing.key(update, one.question.sample.seed, number)
                for one in some
                for number in numbers
            ]
            numbers_RL = drawing.numbers(keys, self.run.rft.max_completion_length)
            found += _chunks(self._said(model, some, len(numbers), numbers_RL), len(numbers))
        return found

    def greedy(self, model: Any, seen: Sequence[Seen]) -> list[Answer]:
        chunks = _chunks(seen, self.run.batch_size)
        return [answer for some in chunks for answer in self._said(model, some, 1, None)]

    @cached_property
    def _allowed_V(self) -> "torch.Tensor":  # noqa: N802  # a shape
        return drawing.allowed(self.loaded, next(self.loaded.model.parameters()).device)

    def _said(
        self, model: Any, seen: Sequence[Seen], copies: int, numbers_RL: "torch.Tensor | None"
    ) -> list[Answer]:
        """Return so many answers to each question; without numbers of the likeliest tokens."""
        with _masked_attention(model):
            rows = _Rows(self.family, self.loaded, model, seen, copies)
            return self._written(rows, numbers_RL)

    def _written(self, rows: "_Rows", numbers_RL: "torch.Tensor | None") -> list[Answer]:
        """Write until all answers have ended, or are as long as they may be."""
        ends, longest = {*exchanges.ends(self.loaded)}, self.run.rft.max_completion_length
        left = list(range(len(rows.scores_RV)))
        ids: list[list[int]] = [[] for _ in left]
        logs: list[list[float]] = [[] for _ in left]
        for place in range(longest):
            numbers_R = None if numbers_RL is None else numbers_RL[left, place]
            ids_R, log_R = self._next(rows.scores_RV, numbers_R)
            for row, token, log in zip(left, ids_R.tolist(), log_R.tolist(), strict=True):
                ids[row].append(token)
                logs[row].append(log)
            on = [at for at, row in enumerate(left) if ids[row][-1] not in ends]
            if not on or place + 1 == longest:
                break
            if len(on) < len(left):
                rows.keep(on)
                left = [left[at] for at in on]
            rows.go_on(ids_R[on])
        both = zip(ids, logs, strict=True)
        return [Answer(tuple(one), tuple(log), one[-1] in ends) for one, log in both]

    def _next(
        self, scores_RV: "torch.Tensor", numbers_R: "torch.Tensor | None"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return the next token of each answer, and its log-probability."""
        import torch

        wide = torch.promote_types(scores_RV.dtype, torch.float32)
        scaled_RV = scores_RV.to(wide) / self.run.rft.temperature
        log_RV = scaled_RV.masked_fill(~self._allowed_V, -torch.inf).log_softmax(dim=1)
        if numbers_R is None:
            ids_R = log_RV.argmax(dim=1)
        else:
            ids_R = drawing.picked(log_RV, numbers_R.to(log_RV.device))
        return ids_R, log_RV.gather(1, ids_R[:, None]).squeeze(1)


class _Rows:
    """Answers that are written together: what the network keeps of them, and its last scores."""

    def __init__(
        self, family: ChatModel, loaded: Loaded, model: Any, seen: Sequence[Seen], copies: int
    ) -> None:
        import torch

        self._model, device = model, next(model.parameters()).device
        read = [_read(family, loaded, model, one) for one in seen]
        self.scores_RV = torch.cat([scores for scores, _ in read]).repeat_interleave(copies, dim=0)
        lengths = torch.tensor([cache.get_seq_length() for _, cache in read])
        self._cache = _aligned([cache for _, cache in read], copies)
        hidden = lengths.max() - lengths
        mask = torch.arange(int(lengths.max())) >= hidden[:, None]
        self._mask = mask.long().repeat_interleave(copies, dim=0).to(device)
        positions = family.answer_positions(loaded, [one.question.encoded for one in seen])
        self._positions = positions.repeat_interleave(copies, dim=-2).to(device)

    def go_on(self, ids_R: "torch.Tensor") -> None:
        """Read one more token of each answer."""
        import torch

        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        told = self._model(
            input_ids=ids_R[:, None],
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._positions = self._positions + 1
        self.scores_RV = told.logits[:, -1]

    def keep(self, rows: list[int]) -> None:
        """Forget all answers but these."""
        import torch

        kept = torch.tensor(rows, device=self._mask.device)
        for layer in self._cache.layers:
            layer.batch_select_indices(kept)
        self._mask = self._mask[kept]
        self._positions = self._positions[..., kept, :]


def _read(family: ChatModel, loaded: Loaded, model: Any, seen: Seen) -> "tuple[torch.Tensor, Any]":
    """Return the scores (1, V) of a question's first answer token, and what is kept of it."""
    encoded = seen.question.encoded
    told = {n: v for n, v in encoded.vision.items() if n not in towers.PIXELS.values()}
    inputs = {name: value[None] for name, value in encoded.tokens.items()} | told
    inputs |= dict(seen.features)
    inputs |= family.worked_out(loaded, inputs)
    ready = Batch(inputs, 0).to(next(model.parameters()).device)
    made = model(**towers.fed(ready.inputs), use_cache=True, logits_to_keep=1)
    return made.logits[:, -1], made.past_key_values


def _aligned(caches: Sequence[Any], copies: int) -> Any:
    """Return the caches of several questions in one, so many times each, all ending together."""
    import torch
    from torch.nn.functional import pad
    from transformers import DynamicCache

    longest = max(cache.get_seq_length() for cache in caches)
    made = DynamicCache()
    for number in range(len(caches[0].layers)):
        layers = [cache.layers[number] for cache in caches]
        states = [
            torch.cat([pad(one, (0, 0, longest - one.shape[-2], 0)) for one in each])
            for each in ([layer.keys for layer in layers], [layer.values for layer in layers])
        ]
        made.update(*(state.repeat_interleave(copies, dim=0) for state in states), number)
    return made


@contextlib.contextmanager
def _masked_attention(model: Any) -> Iterator[None]:
    """Attend by a mask: what attends to packed rows has none."""
    from spark_trainer.families.kinds.attention import SEGMENTS, VARLEN

    config = model.config.get_text_config()
    before = config._attn_implementation
    if before not in (SEGMENTS, VARLEN):
        yield
        return
    config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        config._attn_implementation = before


def _chunks(values: Sequence[_Some], size: int) -> list[list[_Some]]:
    """Return so many values at a time."""
    return [list(values[at : at + size]) for at in range(0, len(values), size)]
