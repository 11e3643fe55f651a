"""Attention of samples, frames or windows that stand one after the other in one row.

Registered with transformers under two names. Neither computes anything between segments or makes a
mask of L × L: for 8 samples of 500 tokens that is an eighth of the work.

- SEGMENTS makes a call for each segment, on any device. On a CPU nothing is faster: one call with a
  mask takes 7 to 12 times as long (text of 8 × 500 and 16 × 120 tokens, forward and backward).
- VARLEN makes one call for all segments, by torch's kernel for a GPU. Upstream tells a vision tower
  the lengths of its frames or windows only if the name has "flash" in it.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from spark_trainer.system import log

SEGMENTS = "segments"
VARLEN = "flash_varlen"
MAX_HEAD_DIM = 256  # of torch's kernel, which wants a multiple of 8
# torch 2.11 takes fewer heads of keys than of queries without being told.
_TOLD = "enable_gqa" in inspect.signature(varlen_attn).parameters
FEWER_KEYS: dict[str, Any] = {"enable_gqa": True} if _TOLD else {}


def segments(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packed_lengths: list[int] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally inside each sample; without `packed_lengths` the row is one sample.

    transformers makes no mask for an implementation of a name that it does not know, so rows may
    only be padded on the right: there no real token sees a padded one.

    Args:
        module: the attention layer.
        query: (1, heads, L, head_dim); `key` and `value` may have fewer heads.
        key: see `query`.
        value: see `query`.
        attention_mask: always None.
        packed_lengths: tokens of each sample, L in sum.
        options: scaling, dropout and what else upstream passes.
    """
    options.pop("is_causal", None)
    if packed_lengths is None:
        whole, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return whole, None
    split = [torch.split(tensor, packed_lengths, dim=2) for tensor in (query, key, value)]
    parts = zip(*split, strict=True)
    done = [sdpa_attention_forward(module, *part, None, **options)[0] for part in parts]
    return torch.cat(done, dim=1), None


def varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend inside each segment; without `cu_seq_lens_q` each row is one, as in generation.

    As with `segments`, rows may only be padded on the right; the padding is a segment of its own.

    Args:
        module: the attention layer.
        query: (B, heads, L, head_dim); `key` and `value` may have fewer heads.
        key: see `query`.
        value: see `query`.
        attention_mask: always None.
        cu_seq_lens_q: (S + 1) where each of S segments begins in the B × L tokens of all rows, and
            where the last one ends.
        max_length_q: tokens of the longest segment.
        options: scaling, is_causal and what else upstream passes; dropout is 0, see `_obstacle`.
    """
    if cu_seq_lens_q is None or max_length_q is None:
        whole, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return whole, None
    causal = options.get("is_causal")
    seen = varlen_attn(
        query=_flat(query),
        key=_flat(key),
        value=_flat(value),
        cu_seq_q=cu_seq_lens_q,
        cu_seq_k=cu_seq_lens_q,
        max_q=max_length_q,
        max_k=max_length_q,
        scale=options.get("scaling"),
        window_size=(-1, 0) if (module.is_causal if causal is None else causal) else (-1, -1),
        **FEWER_KEYS,
    )
    assert isinstance(seen, torch.Tensor)  # with its sums only on demand
    return seen.reshape(query.shape[0], query.shape[2], *seen.shape[1:]), None


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """Return (B, heads, L, head_dim) as (B × L, heads, head_dim), in autocast's precision.

    torch's autocast doesn't know the kernel, and rotary embeddings leave float32.
    """
    kind = tensor.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype
    return tensor.transpose(1, 2).flatten(0, 1).to(dtype)


AttentionInterface.register(SEGMENTS, segments)
AttentionInterface.register(VARLEN, varlen)


def use_varlen(model: Any, parts: Sequence[str], precision: torch.dtype | None) -> None:
    """Let the parts of a model attend by VARLEN on a GPU; the log says of which it can't, and why.

    Args:
        model: of transformers.
        parts: names of their configurations in the model's own.
        precision: of the arithmetic, None for float32.
    """
    obstacles = {part: _obstacle(getattr(model.config, part), precision) for part in parts}
    for part, why in obstacles.items():
        if why:
            text = "train.attention: auto is slow for %s, a call for each sample or image: %s"
            log.logger.warning(text, part.removesuffix("_config"), why)
    model.set_attn_implementation({part: VARLEN for part, why in obstacles.items() if not why})


def _obstacle(config: Any, precision: torch.dtype | None) -> str | None:
    """Return why VARLEN can't compute a part of a model; None where it can."""
    if precision not in (torch.bfloat16, torch.float16):
        return "the kernel computes in 16 bits (train.mixed_precision)"
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        return f"the kernel needs an Ampere GPU or a newer one, not {torch.cuda.get_device_name()}"
    if (width := _head_dim(config)) % 8 or width > MAX_HEAD_DIM:
        return f"heads of {width} numbers; the kernel takes multiples of 8 up to {MAX_HEAD_DIM}"
    if getattr(config, "attention_dropout", 0):
        return "the kernel has no dropout (attention_dropout of the checkpoint)"
    if not full_everywhere(config):
        return "the checkpoint has layers of other than full attention"
    return None


def _head_dim(config: Any) -> int:
    """Return the width of a head, whatever a family calls what it is made of."""
    if width := getattr(config, "head_dim", None):
        return int(width)
    heads = getattr(config, "num_heads", None) or config.num_attention_heads
    return int((getattr(config, "embed_dim", None) or config.hidden_size) // heads)


def full_everywhere(config: Any) -> bool:
    """Tell whether each token of every layer may see all that stand before it."""
    told = config.to_dict()
    layers = set(told.get("layer_types") or ["full_attention"])
    return layers == {"full_attention"} and not told.get("sliding_window")
