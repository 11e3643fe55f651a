"""Samples in one row see only themselves."""

from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import scaled_dot_product_attention

from spark_trainer.families.kinds import padding
from spark_trainer.families.kinds.attention import VARLEN, segments, use_varlen, varlen
from tests.families import varlen_on_cpu  # noqa: F401  # the kernel of a GPU runs here too

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


def whole(row: tuple[torch.Tensor, ...], causal: bool) -> torch.Tensor:
    """What a mask gives of LENGTHS, by torch's attention."""
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    mask = owner[:, None] == owner
    if causal:
        mask = mask.tril()
    query, *rest = row
    wide = [tensor.repeat_interleave(2, dim=1) for tensor in rest]
    return scaled_dot_product_attention(query, *wide, attn_mask=mask, scale=0.3).transpose(1, 2)


@pytest.mark.parametrize("causal", [True, False])
def test_one_call_equals_a_mask(row: tuple[torch.Tensor, ...], causal: bool) -> None:
    found, weights = varlen(
        Layer(), *row, None, is_causal=causal, scaling=0.3, **padding.boundaries(LENGTHS)
    )
    torch.testing.assert_close(found, whole(row, causal))
    assert weights is None


def test_padding_is_seen_by_nobody(row: tuple[torch.Tensor, ...]) -> None:
    """Two rows of which one is padded, however large what stands there."""
    padded = [torch.cat([tensor, tensor]) for tensor in row]
    for tensor in padded:
        tensor[1, :, 7:] = 1e4
    told = padding.boundaries([12, 7, 5])
    found, _ = varlen(Layer(), *padded, None, **told)
    alone, _ = varlen(Layer(), *(tensor[:, :, :7] for tensor in row), None)
    torch.testing.assert_close(found[1:, :7], alone)
    assert found.isfinite().all()


def test_a_prompt_and_its_answer_are_attended_to_as_upstream_does(
    row: tuple[torch.Tensor, ...],
) -> None:
    """Generation tells no lengths: the whole row first, then a token at a time."""
    expected, _ = segments(Layer(), *row, None)
    query, key, value = row
    torch.testing.assert_close(varlen(Layer(), *row, None)[0], expected)
    last, _ = varlen(Layer(), query[:, :, -1:], key, value, None)
    torch.testing.assert_close(last, expected[:, -1:])


def test_the_kernel_gets_16_bits_of_what_autocast_left_wider(row: tuple[torch.Tensor, ...]) -> None:
    query, key, value = row
    told = padding.boundaries(LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = varlen(Layer(), query, key, value.bfloat16(), None, **told)
    assert found.dtype == torch.bfloat16


def llava(changed: dict[str, Any]) -> Any:
    """A model of a layer each, its text configured otherwise."""
    small: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
    text = transformers.LlamaConfig(**small | {"vocab_size": 8} | changed)
    vision = transformers.CLIPVisionConfig(**small, image_size=28)
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=1)
    return transformers.LlavaForConditionalGeneration(config)


@pytest.mark.parametrize(
    ("changed", "precision", "why"),
    [
        ({}, None, "computes in 16 bits"),
        ({"head_dim": 12}, torch.bfloat16, "heads of 12 numbers"),
        ({"head_dim": 512}, torch.float16, "heads of 512 numbers"),
        ({"attention_dropout": 0.1}, torch.bfloat16, "no dropout"),
        ({"layer_types": ["sliding_attention"]}, torch.bfloat16, "other than full attention"),
        ({"sliding_window": 8}, torch.bfloat16, "other than full attention"),
        ({}, torch.bfloat16, None),
    ],
)
def test_what_the_kernel_cannot_do_is_told(
    changed: dict[str, Any],
    precision: torch.dtype | None,
    why: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = llava(changed)
    use_varlen(model, ("text_config",), precision)
    assert (model.config.text_config._attn_implementation == VARLEN) == (why is None)
    assert model.config.vision_config._attn_implementation == "sdpa"
    assert len(caplog.messages) == (why is not None)
    for message in caplog.messages:
        assert message.startswith("train.attention: auto is slow for text, a call for each sample")
        assert str(why) in message


def test_old_gpus_have_no_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    use_varlen(llava({}), ("text_config",), torch.float16)
    [message] = caplog.messages
    assert message.endswith("the kernel needs an Ampere GPU or a newer one, not Tesla T4")
