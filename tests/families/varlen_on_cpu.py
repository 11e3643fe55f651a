"""Torch's varlen kernel on a CPU, where it has none: by plain matrix products, for tests alone.

Importing it registers both directions, so that what runs on a GPU runs here from end to end.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import varlen


def _parts(cu_q: Tensor, *tensors: Tensor) -> Iterator[list[Tensor]]:
    """Each segment of tensors (T, H, D), as (H, L, D)."""
    lengths = [int(length) for length in cu_q.diff()]  # `tolist` is counted as a wait
    assert sum(lengths) == len(tensors[0]), "segments don't cover the row"
    for part in zip(*(tensor.split(lengths) for tensor in tensors), strict=True):
        yield [one.transpose(0, 1) for one in part]


def _scores(query: Tensor, key: Tensor, scale: float, causal: bool) -> Tensor:
    scores = query @ key.transpose(1, 2) * scale
    if causal:
        later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores


def _wide(tensor: Tensor, heads: int) -> Tensor:
    return tensor.repeat_interleave(heads // tensor.shape[1], dim=1)


@varlen._varlen_attn.register_kernel("cpu")  # type: ignore[untyped-decorator]
def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_q: Tensor,
    cu_k: Tensor | None,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
    scale: float | None = None,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    assert query.dtype == key.dtype == value.dtype
    assert int(cu_q.diff().max()) <= max_q
    heads, scale = query.shape[1], scale or query.shape[2] ** -0.5
    out, sums = [], []
    for q, k, v in _parts(cu_q, query, _wide(key, heads), _wide(value, heads)):
        scores = _scores(q, k, scale, is_causal)
        out.append((scores.softmax(2) @ v).transpose(0, 1))
        sums.append(scores.logsumexp(2))
    state = torch.zeros(2, dtype=torch.uint64)
    return torch.cat(out).contiguous(), torch.cat(sums, dim=1).float(), state


@varlen._varlen_attn_backward.register_kernel("cpu")  # type: ignore[untyped-decorator]
def backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    sums: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool,
    state: Tensor,
    scale: float | None = None,
    *_: Any,
) -> tuple[Tensor, ...]:
    heads, scale = query.shape[1], scale or query.shape[2] ** -0.5
    found: list[list[Tensor]] = [[], [], []]
    for d, q, k, v in _parts(cu_q, grad, query, _wide(key, heads), _wide(value, heads)):
        weights = _scores(q, k, scale, is_causal).softmax(2)
        of_weights = d @ v.transpose(1, 2)
        of_scores = weights * (of_weights - (weights * of_weights).sum(2, keepdim=True)) * scale
        parts = (of_scores @ k, of_scores.transpose(1, 2) @ q, weights.transpose(1, 2) @ d)
        for one, part in zip(found, parts, strict=True):
            one.append(part.transpose(0, 1))
    whole = [torch.cat(parts) for parts in found]
    inputs = zip(whole, (query, key, value), strict=True)
    return tuple(g.unflatten(1, (t.shape[1], -1)).sum(2).contiguous() for g, t in inputs)
