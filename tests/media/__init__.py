"""Reading media: short ways to what is under test."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from PIL.Image import Image

from spark_trainer.media import pictures
from spark_trainer.media.source import opened


def images_at(path: Path, times: Sequence[float]) -> list[Image]:
    """The frame at each time."""
    return [picture.image() for picture in pictures.at(path, times)]


def images_on_grid(path: Path, rate: float, count: int | None = None) -> list[Image]:
    """The first frames on a grid, or all."""
    with opened(path) as source:
        found = pictures.on_grid(pictures.read(source), rate)
        return [picture.image() for picture in islice(found, count)]
