"""A folder of transformers: `config.json`, safetensors, and what generates and listens."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.speech.formats import tensor_names, vocabulary
from spark_trainer.speech.formats.weights import Weights, described

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
# Values of `WhisperConfig` that stand elsewhere in a folder of today, or are told on loading.
ELSEWHERE = {
    *("forced_decoder_ids", "suppress_tokens", "begin_suppress_tokens", "max_length"),
    *("architectures", "dtype", "torch_dtype", "transformers_version"),
}


def read(folder: Path) -> Weights:
    """Read a folder; never pickled weights.

    Raises:
        ValueError: a file is missing or damaged, it holds no Whisper model, or its configuration,
            its tokenizer or its mels are another model's than the weights'.
    """
    config = _json(folder / CONFIG)
    if (kind := config.get("model_type")) != "whisper":
        raise ValueError(f"{folder / CONFIG}: expected a model of type whisper (got {kind})")
    try:
        found = described(
            tensor_names.to_transformers(tensor_names.to_openai(tensors(folder))),
            config.get("decoder_attention_heads"),
            {key: value for key, value in config.items() if key not in ELSEWHERE},
            _json(folder / "generation_config.json"),
        )
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    for key, value in found.config.items():
        size = isinstance(value, int) and not key.endswith("_id")
        if size and config.get(key, value) != value:
            raise ValueError(
                f"{folder / CONFIG}: {key} is {config[key]}, but that of its weights is {value}"
            )
    vocabulary.check(folder, found.config["vocab_size"])
    _check_mels(folder, found.config["num_mel_bins"])
    return found


def tensors(folder: Path) -> "dict[str, torch.Tensor]":
    """Read the tensors as they are named in the files.

    Raises:
        ValueError: a file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = _json(folder / INDEX).get("weight_map")
    files = sorted(set(index.values())) if index else [WEIGHTS]
    found: dict[str, torch.Tensor] = {}
    for file in files:
        if not (folder / file).is_file():
            raise ValueError(f"lacks {file}")
        try:
            found |= load_file(folder / file)
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged ({error})") from None
    return found


def _check_mels(folder: Path, mels: int) -> None:
    for file in ("preprocessor_config.json", "processor_config.json"):
        told = _json(folder / file)
        size = told.get("feature_extractor", told).get("feature_size", mels)
        if size != mels:
            raise ValueError(
                f"{folder / file}: feature_size is {size}, the weights take {mels} mels"
            )


def _json(path: Path) -> dict[str, Any]:
    """Read a file that may not be there."""
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        raise ValueError(f"{path}: expected a JSON object") from None
