"""Captioning behind one interface; one module per backend, named like its configuration value.

A backend's module holds `default_model` (a hub id, or None), `identity` (what else decides its
words) and `load(settings, threads)`.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

from spark_trainer.config import Caption
from spark_trainer.data import models


class Captioner(Protocol):
    """A loaded model."""

    def predict(self, image_path: Path) -> str:
        """The caption of one image."""
        ...

    def predict_batch(self, videos: Sequence[Sequence[Path]]) -> list[str]:
        """A caption for each video, given its chosen frames in order of time.

        A backend that sees one image at a time takes the middle frame.
        """
        ...


def backend(name: str) -> ModuleType:
    """The module of a configured backend."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def load(settings: Caption, threads: int) -> Captioner:
    """Load the configured backend and model on the configured device."""
    return backend(settings.captioner_backend).load(settings, threads)  # type: ignore[no-any-return]


def model_name(settings: Caption) -> str | None:
    """The configured model, else the backend's documented default."""
    return settings.model_name or backend(settings.captioner_backend).default_model


def identity(settings: Caption, cache: Path) -> list[str | None]:
    """What the backend and its model name stand for."""
    module = backend(settings.captioner_backend)
    name = model_name(settings)
    return [module.identity, models.identity(name, cache) if name else None]


def middle(frames: Sequence[Path]) -> Path:
    """The frame that stands for a video."""
    return frames[len(frames) // 2]
