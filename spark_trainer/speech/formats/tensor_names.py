"""One table of openai-whisper's tensors and what transformers calls them, read either way.

The tensors map one to one (transformers/models/whisper/convert_openai_to_hf.py).
"""

from collections.abc import Mapping
from typing import TypeVar

Tensor = TypeVar("Tensor")

# openai-whisper's module -> transformers', within a block and outside of the blocks.
IN_BLOCK = {
    "attn_ln": "self_attn_layer_norm",
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "cross_attn.query": "encoder_attn.q_proj",
    "cross_attn.key": "encoder_attn.k_proj",
    "cross_attn.value": "encoder_attn.v_proj",
    "cross_attn.out": "encoder_attn.out_proj",
    "mlp_ln": "final_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
}
OUTSIDE = {
    "encoder.conv1": "encoder.conv1",
    "encoder.conv2": "encoder.conv2",
    "encoder.positional_embedding": "encoder.embed_positions.weight",
    "encoder.ln_post": "encoder.layer_norm",
    "decoder.token_embedding": "decoder.embed_tokens",
    "decoder.positional_embedding": "decoder.embed_positions.weight",
    "decoder.ln": "decoder.layer_norm",
}
TIED = "proj_out.weight"  # transformers' output layer, which is the embedding of the tokens
PREFIX = "model."


def to_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under transformers' names, without the tied output layer.

    Raises:
        ValueError: Whisper has no tensor of such a name.
    """
    return {
        PREFIX + _renamed(name, IN_BLOCK, OUTSIDE, ("blocks", "layers")): tensor
        for name, tensor in tensors.items()
    }


def to_openai(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under openai-whisper's names; the output layer, which is tied, is left out.

    Raises:
        ValueError: Whisper has no tensor of such a name.
    """
    inside, outside = _turned(IN_BLOCK), _turned(OUTSIDE)
    bare = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    return {
        _renamed(name, inside, outside, ("layers", "blocks")): tensor
        for name, tensor in bare.items()
        if name != TIED
    }


def _turned(table: Mapping[str, str]) -> dict[str, str]:
    return {right: left for left, right in table.items()}


def _renamed(
    name: str, inside: Mapping[str, str], outside: Mapping[str, str], blocks: tuple[str, str]
) -> str:
    """Return a tensor's other name; a position's has no `weight` or `bias` at openai-whisper."""
    if name in outside:
        return outside[name]
    module, _, kind = name.rpartition(".")
    side, stack, *rest = (*module.split(".", 3), "", "")
    if stack == blocks[0] and rest[1] in inside:
        return f"{side}.{blocks[1]}.{rest[0]}.{inside[rest[1]]}.{kind}"
    if module not in outside:
        raise ValueError(f"no Whisper model, it has a tensor {name}")
    return f"{outside[module]}.{kind}"
