"""openai-whisper's model from weights in other layouts: CTranslate2's, and transformers'."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.speech.formats import ctranslate2, tensor_names, transformers

if TYPE_CHECKING:
    import whisper


def from_ctranslate2(folder: Path) -> "whisper.Whisper":
    """Rebuild openai-whisper's model from a CTranslate2 conversion of it.

    Args:
        folder: holds `model.bin` in 16- or 32-bit floats.

    Raises:
        ValueError: a tensor is missing, so the folder holds no Whisper model, or the weights are
            8-bit integers, which PyTorch's model can't use.
    """
    state = ctranslate2.openai_state(folder)
    return _build(state, _alignment_heads(folder / "config.json"))


def from_transformers(folder: Path) -> "whisper.Whisper":
    """Rebuild openai-whisper's model from a transformers checkpoint of it.

    Args:
        folder: holds `model.safetensors`, and in `generation_config.json` the attention heads
            that word times are read from, if they are known.

    Raises:
        ValueError: a tensor is missing.
    """
    try:
        state = tensor_names.to_openai(transformers.tensors(folder))
        return _build(state, _alignment_heads(folder / "generation_config.json"))
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
    model.load_state_dict(state)  # copies into 32-bit floats
    if heads:
        mask = torch.zeros(dims.n_text_layer, dims.n_text_head, dtype=torch.bool)
        for layer, head in heads:
            mask[layer, head] = True
        model.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
    return model.eval()


def _blocks(state: dict[str, Any], side: str) -> int:
    return len({name.split(".")[2] for name in state if name.startswith(f"{side}.blocks.")})


def _alignment_heads(path: Path) -> list[list[int]]:
    if not path.is_file():
        return []
    heads: list[list[int]] | None = json.loads(path.read_bytes()).get("alignment_heads")
    return heads or []
