"""openai-whisper's model from weights in other layouts: CTranslate2's, and transformers'."""

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import whisper


def from_ctranslate2(folder: Path) -> "whisper.Whisper":
    """Rebuild openai-whisper's model from a CTranslate2 conversion of it.

    CTranslate2 (ctranslate2/specs/whisper_spec.py) stores q, k and v of self-attention, and k
    and v of cross-attention, as one matrix; the rest maps name by name.

    Args:
        folder: holds `model.bin` in 16- or 32-bit floats.

    Raises:
        ValueError: a tensor is missing, so the folder holds no Whisper model, or the weights are
            8-bit integers, which PyTorch's model can't use.
    """
    import torch

    tensors = {name: torch.from_numpy(a).float() for name, a in _read(folder / "model.bin").items()}
    if any(name.endswith("/weight_scale") for name in tensors):
        raise ValueError(f"{folder}: integer weights; expected 16- or 32-bit floats")
    try:
        state = _rename(tensors)
    except KeyError as error:
        raise ValueError(f"{folder}: no Whisper model, {error} is missing") from None
    return _build(state, heads=_alignment_heads(folder / "config.json", "alignment_heads"))


def from_transformers(folder: Path) -> "whisper.Whisper":
    """Rebuild openai-whisper's model from a transformers checkpoint of it.

    The tensors map one to one by name (transformers/models/whisper/convert_openai_to_hf.py).

    Args:
        folder: holds `model.safetensors`, and in `generation_config.json` the attention heads
            that word times are read from, if they are known.

    Raises:
        ValueError: a tensor is missing.
    """
    from safetensors.torch import load_file

    state = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name in ("proj_out.weight", "model.proj_out.weight"):
            continue  # tied to the token embedding
        for theirs, ours in _TRANSFORMERS:
            name = name.replace(theirs, ours)
        state[name.removeprefix("model.")] = tensor.float()
    heads = _alignment_heads(folder / "generation_config.json", "alignment_heads")
    try:
        return _build(state, heads)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{folder}: no Whisper model: {error}") from None


def _build(state: dict[str, Any], heads: list[list[int]]) -> "whisper.Whisper":
    """Build a model of the sizes that its tensors have.

    Args:
        state: openai-whisper's names -> tensors.
        heads: (layer, head) pairs whose cross-attention follows the audio; empty if unknown.
    """
    import torch
    import whisper

    head_width = 64
    vocabulary, width = state["decoder.token_embedding.weight"].shape
    dims = whisper.ModelDimensions(
        n_mels=state["encoder.conv1.weight"].shape[1],
        n_audio_ctx=state["encoder.positional_embedding"].shape[0],
        n_audio_state=width,
        n_audio_head=width // head_width,
        n_audio_layer=_blocks(state, "encoder"),
        n_vocab=vocabulary,
        n_text_ctx=state["decoder.positional_embedding"].shape[0],
        n_text_state=width,
        n_text_head=width // head_width,
        n_text_layer=_blocks(state, "decoder"),
    )
    model = whisper.Whisper(dims)
    model.load_state_dict(state)
    if heads:
        mask = torch.zeros(dims.n_text_layer, dims.n_text_head, dtype=torch.bool)
        for layer, head in heads:
            mask[layer, head] = True
        model.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
    return model.eval()


def _blocks(state: dict[str, Any], side: str) -> int:
    return len({name.split(".")[2] for name in state if name.startswith(f"{side}.blocks.")})


def _alignment_heads(path: Path, key: str) -> list[list[int]]:
    if not path.is_file():
        return []
    heads: list[list[int]] | None = json.loads(path.read_bytes()).get(key)
    return heads or []


def _read(path: Path) -> "dict[str, np.ndarray]":
    """Read the tensors of a CTranslate2 model file (ctranslate2/specs/model_spec.py, version 6)."""
    import numpy as np

    kinds = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
    tensors: dict[str, np.ndarray] = {}
    with open(path, "rb") as file:

        def number(code: str) -> int:
            return int(struct.unpack(f"<{code}", file.read(struct.calcsize(f"<{code}")))[0])

        def text() -> str:
            return file.read(number("H")).rstrip(b"\0").decode()

        number("I"), text(), number("I")
        for _ in range(number("I")):
            name = text()
            shape = [number("I") for _ in range(number("B"))]
            kind, size = number("B"), number("I")
            data = np.frombuffer(file.read(size), kinds[kind])
            tensors[name] = data.reshape(shape).copy()
        for _ in range(number("I")):
            alias, target = text(), text()
            tensors[alias] = tensors[target]
    return tensors


def _layers(tensors: dict[str, Any], side: str) -> int:
    parts = {name.split("/")[1] for name in tensors if name.startswith(f"{side}/layer_")}
    return len(parts - {"layer_norm"})


def _rename(tensors: dict[str, Any]) -> dict[str, Any]:
    """Turn CTranslate2's names and fused matrices into openai-whisper's state dictionary."""
    state: dict[str, Any] = {
        "encoder.positional_embedding": tensors["encoder/position_encodings/encodings"],
        "decoder.positional_embedding": tensors["decoder/position_encodings/encodings"],
        "decoder.token_embedding.weight": tensors["decoder/embeddings/weight"],
    }

    def copy(source: str, target: str) -> None:
        for kind in ("weight", "bias"):
            state[f"{target}.{kind}"] = tensors[f"{source}/{kind}"]

    def norm(source: str, target: str) -> None:
        state[f"{target}.weight"] = tensors[f"{source}/gamma"]
        state[f"{target}.bias"] = tensors[f"{source}/beta"]

    def split(source: str, targets: list[str]) -> None:
        for kind in ("weight", "bias"):
            for target, part in zip(
                targets, tensors[f"{source}/{kind}"].chunk(len(targets)), strict=True
            ):
                if not (kind == "bias" and target.endswith("key")):  # Whisper's keys have none
                    state[f"{target}.{kind}"] = part

    for conv in ("conv1", "conv2"):
        copy(f"encoder/{conv}", f"encoder.{conv}")
    norm("encoder/layer_norm", "encoder.ln_post")
    norm("decoder/layer_norm", "decoder.ln")
    for side in ("encoder", "decoder"):
        for layer in range(_layers(tensors, side)):
            old, new = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
            norm(f"{old}/self_attention/layer_norm", f"{new}.attn_ln")
            split(f"{old}/self_attention/linear_0", [f"{new}.attn.{x}" for x in _QKV])
            copy(f"{old}/self_attention/linear_1", f"{new}.attn.out")
            norm(f"{old}/ffn/layer_norm", f"{new}.mlp_ln")
            copy(f"{old}/ffn/linear_0", f"{new}.mlp.0")
            copy(f"{old}/ffn/linear_1", f"{new}.mlp.2")
            if side == "decoder":
                norm(f"{old}/attention/layer_norm", f"{new}.cross_attn_ln")
                copy(f"{old}/attention/linear_0", f"{new}.cross_attn.query")
                split(f"{old}/attention/linear_1", [f"{new}.cross_attn.{x}" for x in _QKV[1:]])
                copy(f"{old}/attention/linear_2", f"{new}.cross_attn.out")
    return state


_QKV = ["query", "key", "value"]

# Pieces of transformers' names -> openai-whisper's, in the order in which they are replaced.
_TRANSFORMERS = (
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("self_attn_layer_norm", "attn_ln"),
    ("encoder_attn", "cross_attn"),
    ("self_attn", "attn"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("final_layer_norm", "mlp_ln"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    ("embed_positions.weight", "positional_embedding"),
    ("embed_tokens", "token_embedding"),
    ("layers", "blocks"),
)
