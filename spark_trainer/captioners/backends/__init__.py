"""The backends by name, and the model and prompt of each.

Whatever module lies here can be chosen. It is called like its configuration value and holds

    MODEL_TYPES     values of `model_type` in a checkpoint's config.json that it runs, if any
    PACKAGES        the distributions that it needs
    DEFAULT_MODEL   hub id, None where the weights come with the installation
    PROMPT          the prompt where the configuration has none
    SEES_VIDEO      whether it takes several frames at once; else the middle one
    NEEDS_GPU       whether it is too slow without a GPU
    load            (settings, device, threads) -> Captioner
"""

import importlib
from typing import Protocol, cast

from spark_trainer.captioners.base import Captioner
from spark_trainer.config import Captioning


class Backend(Protocol):
    """What a backend's module offers."""

    MODEL_TYPES: tuple[str, ...]
    PACKAGES: tuple[str, ...]
    DEFAULT_MODEL: str | None
    PROMPT: str
    SEES_VIDEO: bool
    NEEDS_GPU: bool

    def load(self, settings: Captioning, device: str, threads: int) -> Captioner: ...


def backend(name: str) -> Backend:
    """Return the module of a configured backend."""
    return cast(Backend, importlib.import_module(f"{__package__}.{name.replace('-', '_')}"))


def model_name(settings: Captioning) -> str | None:
    """Return the configured model, else the backend's documented default."""
    return settings.model_name or backend(settings.captioner_backend).DEFAULT_MODEL


def prompt(settings: Captioning) -> str:
    """Return the configured prompt, else the backend's own."""
    return (
        backend(settings.captioner_backend).PROMPT if settings.prompt is None else settings.prompt
    )


def key(settings: Captioning) -> str:
    """Return the key by which the configuration names this captioner's model."""
    return f"caption.model_name ({settings.captioner_backend})"
