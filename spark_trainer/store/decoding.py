"""Files of a store decoded whole, each kind by the library that its readers use."""

import wave
from functools import partial
from pathlib import Path

from spark_trainer.data import tensors
from spark_trainer.errors import of_machine, told

PIECE = 1 << 16  # samples of a sound that are read at once


def damage(path: Path) -> str | None:
    """Decode a file whole; tell why that fails, None where it does not.

    Raises:
        OSError: the machine can't read it.
    """
    decode = DECODERS.get(path.suffix)
    try:
        if decode:
            decode(path)
    except Exception as error:
        if of_machine(error):
            raise
        return f"can't be decoded: {told(error)}"
    return None


def _picture(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.load()


def _wav(path: Path) -> None:
    with wave.open(str(path)) as sound:
        promised, size = sound.getnframes(), sound.getnchannels() * sound.getsampwidth()
        there = sum(len(piece) for piece in iter(partial(sound.readframes, PIECE), b"")) // size
    if there != promised:
        raise ValueError(f"{there:,} of {promised:,} samples are there")


def _video(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        for _ in container.decode(video=0):
            pass


def _arrays(path: Path) -> None:
    import numpy as np

    with np.load(path, allow_pickle=False) as held:
        for name in held.files:
            held[name]


DECODERS = {
    ".jpg": _picture,
    ".png": _picture,
    ".wav": _wav,
    ".mp4": _video,
    ".npz": _arrays,
    ".safetensors": tensors.check,
}
