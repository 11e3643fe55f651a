"""Attention of samples that stand one after the other in one row.

Registered with transformers under the name SEGMENTS. Each sample is a call of its own, so nothing
is computed between samples and no mask of L × L is made: for 8 samples of 500 tokens that is an
eighth of the work, on any device and without a further package.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

SEGMENTS = "segments"


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


AttentionInterface.register(SEGMENTS, segments)
