"""Whisper by OpenAI's own package, the documented default."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Transcript
from spark_trainer.transcribers import Segment

if TYPE_CHECKING:
    import numpy as np
    import whisper


class OpenaiWhisper:
    """A loaded PyTorch model."""

    def __init__(self, settings: Transcript, model: str, threads: int) -> None:
        import torch
        import whisper

        torch.set_num_threads(threads)
        self._settings = settings
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = Path(model)
        if (folder / "model.bin").exists():
            self._model = from_ctranslate2(folder).to(device)
        else:
            self._model = whisper.load_model(model, device=device)

    def transcribe(
        self, wav: Path, speech: Sequence[tuple[float, float]] | None
    ) -> tuple[str, list[Segment]]:
        """See `Transcriber`; decoded here, because whisper's own loader wants a system FFmpeg."""
        import torch
        from faster_whisper.audio import decode_audio

        torch.manual_seed(0)  # a fallback to higher temperatures samples
        clips = [second for stretch in speech or () for second in stretch]
        result: dict[str, Any] = self._model.transcribe(
            decode_audio(str(wav), sampling_rate=16000),
            language=self._settings.language,
            condition_on_previous_text=False,
            clip_timestamps=clips or "0",
            fp16=self._model.device.type == "cuda",
        )
        return result["language"], [
            Segment(s["start"], s["end"], s["text"].strip(), s["no_speech_prob"])
            for s in result["segments"]
        ]


def load(settings: Transcript, model: str, threads: int) -> OpenaiWhisper:
    """Load a size, a checkpoint file, or a folder of CTranslate2 weights."""
    return OpenaiWhisper(settings, model, threads)


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
    import whisper

    tensors = {name: torch.from_numpy(a).float() for name, a in _read(folder / "model.bin").items()}
    if any(name.endswith("/weight_scale") for name in tensors):
        raise ValueError(f"{folder}: integer weights; expected 16- or 32-bit floats")
    try:
        state = _rename(tensors)
    except KeyError as error:
        raise ValueError(f"{folder}: no Whisper model, {error} is missing") from None
    head_width = 64
    n_text, n_audio = _layers(tensors, "decoder"), _layers(tensors, "encoder")
    vocabulary, width = state["decoder.token_embedding.weight"].shape
    dims = whisper.ModelDimensions(
        n_mels=state["encoder.conv1.weight"].shape[1],
        n_audio_ctx=state["encoder.positional_embedding"].shape[0],
        n_audio_state=width,
        n_audio_head=width // head_width,
        n_audio_layer=n_audio,
        n_vocab=vocabulary,
        n_text_ctx=state["decoder.positional_embedding"].shape[0],
        n_text_state=width,
        n_text_head=width // head_width,
        n_text_layer=n_text,
    )
    model = whisper.Whisper(dims)
    model.load_state_dict(state)
    return model.eval()


def _read(path: Path) -> "dict[str, np.ndarray]":
    """Tensors of a CTranslate2 model file (ctranslate2/specs/model_spec.py, version 6)."""
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
    """CTranslate2's names and fused matrices -> openai-whisper's state dictionary."""
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
