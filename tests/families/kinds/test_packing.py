"""Samples in one row see only themselves."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from spark_trainer.families.kinds.packing import segments

LENGTHS = [3, 1, 6, 2]


class Layer(torch.nn.Module):
    """What attention asks of its layer."""

    num_key_value_groups = 2
    is_causal = True


@pytest.fixture
def row() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    length = sum(LENGTHS)
    return tuple(torch.randn(1, heads, length, 8) for heads in (4, 2, 2))


def test_equals_a_block_diagonal_causal_mask(row: tuple[torch.Tensor, ...]) -> None:
    query, key, value = row
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    mask = (owner[:, None] == owner) & torch.ones(len(owner), len(owner)).tril().bool()
    wide = [tensor.repeat_interleave(2, dim=1) for tensor in (key, value)]
    expected = scaled_dot_product_attention(query, *wide, attn_mask=mask).transpose(1, 2)
    found, _ = segments(Layer(), query, key, value, None, packed_lengths=LENGTHS)
    torch.testing.assert_close(found, expected)


def test_a_whole_row_is_plain_causal_attention(row: tuple[torch.Tensor, ...]) -> None:
    query, key, value = row
    wide = [tensor.repeat_interleave(2, dim=1) for tensor in (key, value)]
    expected = scaled_dot_product_attention(query, *wide, is_causal=True).transpose(1, 2)
    torch.testing.assert_close(segments(Layer(), query, key, value, None)[0], expected)
