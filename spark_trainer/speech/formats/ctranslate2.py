"""CTranslate2's folder: `model.bin`, its words and its configuration."""

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from spark_trainer.data.files import write_json
from spark_trainer.speech.formats import tensor_names, vocabulary
from spark_trainer.speech.formats.weights import Weights, described

if TYPE_CHECKING:
    import torch

MODEL, CONFIG, SPEC = "model.bin", "config.json", "WhisperSpec"
PREPROCESSOR = "preprocessor_config.json"
PADS_SOUND = "pads_sound"  # a key in it of our own, which other packages pass over
BINARY_VERSION = 6
KINDS = ("float32", "int8", "int16", "int32", "float16", "bfloat16")  # by number
QKV = ("query", "key", "value")
# CTranslate2's key in config.json -> transformers' in generation_config.json.
GENERATION = {
    "alignment_heads": "alignment_heads",
    "suppress_ids": "suppress_tokens",
    "suppress_ids_begin": "begin_suppress_tokens",
}


def read(folder: Path, on_meta: bool) -> Weights:
    """Read a folder whose weights are 16- or 32-bit floats.

    Args:
        folder: the folder.
        on_meta: whether the content of tensors is left out, which makes them those of torch's
            device `meta`.

    Raises:
        ValueError: the weights are integers, so they are rounded, or it is no Whisper model, or
            one of another vocabulary.
    """
    state = openai_state(folder, on_meta)
    known = json.loads((folder / CONFIG).read_bytes()) if (folder / CONFIG).is_file() else {}
    generation = {ours: known.get(theirs) for theirs, ours in GENERATION.items()}
    try:
        found = described(tensor_names.to_transformers(state), generation=generation)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    vocabulary.check(folder, found.config["vocab_size"])
    return found


def openai_state(folder: Path, on_meta: bool = False) -> "dict[str, torch.Tensor]":
    """Read the tensors by openai-whisper's names.

    CTranslate2 (ctranslate2/specs/whisper_spec.py) stores q, k and v of self-attention, and k
    and v of cross-attention, as one matrix; the rest maps name by name.

    Args:
        folder: holds `model.bin`.
        on_meta: as in `read`.

    Raises:
        ValueError: a tensor is missing, so the folder holds no Whisper model, or the weights are
            integers, which are rounded, and PyTorch's model can't use.
    """
    tensors = dict(_tensors(folder / MODEL, on_meta))
    if any(name.endswith("/weight_scale") for name in tensors):
        raise ValueError(f"{folder}: integer weights; expected 16- or 32-bit floats")
    try:
        return _rename(tensors)
    except KeyError as error:
        raise ValueError(f"{folder}: no Whisper model, {error} is missing") from None


def write(folder: Path, target: Path) -> None:
    """Convert a transformers folder with CTranslate2's own converter, in the same precision.

    Args:
        folder: holds weights, tokenizer.json and preprocessor_config.json.
        target: the new folder, which needs no other file for `faster_whisper.WhisperModel`.
    """
    from ctranslate2.converters import TransformersConverter

    copied = ["tokenizer.json", PREPROCESSOR]
    TransformersConverter(str(folder), copy_files=copied).convert(str(target))
    known = json.loads((target / PREPROCESSOR).read_bytes())
    write_json(target / PREPROCESSOR, known | {PADS_SOUND: True})


def _tensors(path: Path, on_meta: bool) -> "Iterator[tuple[str, torch.Tensor]]":
    """Yield name and content (ctranslate2/specs/model_spec.py, binary version 6).

    Raises:
        ValueError: it is no such file, or ends before its last tensor does.
    """
    import torch

    read: dict[str, torch.Tensor] = {}
    with open(path, "rb") as file:
        _head(path, file)
        try:
            for _ in range(_number(file, "I")):
                name = _text(file)
                shape = [_number(file, "I") for _ in range(_number(file, "B"))]
                kind, size = KINDS[_number(file, "B")], _number(file, "I")
                dtype = getattr(torch, kind)
                if on_meta:
                    file.seek(size, os.SEEK_CUR)
                    tensor = torch.empty(shape, dtype=dtype, device="meta")
                else:
                    content = bytearray(file.read(size))
                    tensor = torch.frombuffer(content, dtype=dtype).reshape(shape)
                read[name] = tensor
                yield name, tensor
            for _ in range(_number(file, "I")):
                yield _text(file), read[_text(file)]
        except (struct.error, IndexError, KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{path}: it is cut or damaged ({error})") from None


def _head(path: Path, file: BinaryIO) -> None:
    try:
        known = _number(file, "I") <= BINARY_VERSION and _text(file) == SPEC
        _number(file, "I")  # the revision of the names
    except (struct.error, ValueError):
        known = False
    if not known:
        raise ValueError(f"{path}: no model of Whisper for CTranslate2")


def _number(file: BinaryIO, code: str) -> int:
    return int(struct.unpack(f"<{code}", file.read(struct.calcsize(f"<{code}")))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()


def _rename(tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Turn CTranslate2's names and fused matrices into openai-whisper's state dictionary."""
    state = {
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

    def split(source: str, module: str, names: Sequence[str]) -> None:
        for kind in ("weight", "bias"):
            parts = tensors[f"{source}/{kind}"].chunk(len(names))
            for name, part in zip(names, parts, strict=True):
                if not (kind == "bias" and name == "key"):  # Whisper's keys have none
                    state[f"{module}.{name}.{kind}"] = part

    for conv in ("conv1", "conv2"):
        copy(f"encoder/{conv}", f"encoder.{conv}")
    norm("encoder/layer_norm", "encoder.ln_post")
    norm("decoder/layer_norm", "decoder.ln")
    for side in ("encoder", "decoder"):
        for layer in range(_layers(tensors, side)):
            old, new = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
            norm(f"{old}/self_attention/layer_norm", f"{new}.attn_ln")
            split(f"{old}/self_attention/linear_0", f"{new}.attn", QKV)
            copy(f"{old}/self_attention/linear_1", f"{new}.attn.out")
            norm(f"{old}/ffn/layer_norm", f"{new}.mlp_ln")
            copy(f"{old}/ffn/linear_0", f"{new}.mlp.0")
            copy(f"{old}/ffn/linear_1", f"{new}.mlp.2")
            if side == "decoder":
                norm(f"{old}/attention/layer_norm", f"{new}.cross_attn_ln")
                copy(f"{old}/attention/linear_0", f"{new}.cross_attn.query")
                split(f"{old}/attention/linear_1", f"{new}.cross_attn", QKV[1:])
                copy(f"{old}/attention/linear_2", f"{new}.cross_attn.out")
    return state


def _layers(tensors: Mapping[str, Any], side: str) -> int:
    parts = {name.split("/")[1] for name in tensors if name.startswith(f"{side}/layer_")}
    return len(parts - {"layer_norm"})
