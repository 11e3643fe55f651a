"""Captioning behind one interface; one module per backend, named like its configuration value.

A backend's module holds

    MODEL_TYPES     values of `model_type` in a checkpoint's config.json that it runs
    DEFAULT_MODEL   hub id, None where the weights come with the installation
    PROMPT          what is asked where the configuration says nothing
    SEES_VIDEO      whether it sees several frames at once; else the middle one
    NEEDS_GPU       whether it is too slow without
    load            (settings, device, threads) -> Captioner
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from spark_trainer.config import Captioning
from spark_trainer.data import models, sample

if TYPE_CHECKING:
    from PIL.Image import Image

Prepared = dict[str, Any]  # what one video becomes on its way to the device


@dataclass(frozen=True)
class Trouble:
    """Why a video gets no caption.

    Of the machine's trouble nothing is held against the video, which is tried again. `details` are
    for the log, such as the traceback of an error that nobody foresaw; with them the video is only
    blamed where a plain grey picture still gets its caption. `unread`: a frame can't be read, which
    may be no longer what was written.
    """

    why: str
    machine: bool = False
    details: str = ""
    unread: bool = False


@dataclass(frozen=True)
class Shown:
    """Frames of one video in the order of time; `times` are seconds from the video's start."""

    frames: tuple[Path, ...]
    times: tuple[float, ...]

    def middle(self) -> "Shown":
        """The one frame that stands for the video."""
        half = len(self.frames) // 2
        return Shown((self.frames[half],), (self.times[half],))

    def images(self, max_side_px: int | None) -> "list[Image]":
        """The frames as RGB, shrunk so that the longer side is at most `max_side_px`.

        Raises:
            Unusable: a frame is no picture.
            OSError: a frame can't be read.
        """
        images = []
        for frame in self.frames:
            image = sample.opened(frame)
            if max_side_px:
                image.thumbnail((max_side_px, max_side_px))
            images.append(image)
        return images


class Captioner(ABC):
    """A loaded model. Videos are prepared on CPU cores and captioned on the device in batches."""

    @abstractmethod
    def prepare(self, shown: Shown) -> Prepared:
        """What the model takes of one video; runs in other processes, and touches no device.

        `length` counts the tokens or images, so that a batch holds videos of like length.

        Raises:
            Unusable: a frame is no picture.
            OSError: a frame can't be read.
        """

    @abstractmethod
    def caption(self, batch: Sequence[Prepared]) -> Sequence[str | Trouble]:
        """A caption for each prepared video, or why one has none."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a record tells of the model beyond the settings: commit, dtype, packages."""
        return {}

    def predict(self, image_path: Path) -> str:
        """The caption of one image."""
        return self.predict_batch([[image_path]])[0]

    def predict_batch(self, videos: Sequence[Sequence[Path]]) -> list[str]:
        """A caption for each video, given its frames in order of time, one second apart.

        Raises:
            Unusable: a video gets none; the message says why.
        """
        shown = [Shown(tuple(frames), tuple(map(float, range(len(frames))))) for frames in videos]
        return [_said(text) for text in self.caption([self.prepare(one) for one in shown])]


def _said(text: str | Trouble) -> str:
    if isinstance(text, Trouble):
        raise sample.Unusable(text.why)
    return text


class Backend(Protocol):
    """What a backend's module offers."""

    MODEL_TYPES: tuple[str, ...]
    DEFAULT_MODEL: str | None
    PROMPT: str
    SEES_VIDEO: bool
    NEEDS_GPU: bool

    def load(self, settings: Captioning, device: str, threads: int) -> Captioner: ...


def backend(name: str) -> Backend:
    """The module of a configured backend."""
    return cast(Backend, importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))


def load(settings: Captioning, device: str = "cpu", threads: int = 1) -> Captioner:
    """Load the configured backend and its model.

    Args:
        settings: one captioner's; `settings.device` is not read, the caller has decided.
        device: `cuda`, the first visible GPU, or `cpu`.
        threads: cores that the model may use on a CPU.

    Raises:
        ConfigError: the checkpoint is not there, incomplete, or another backend's.
    """
    check(settings)
    if settings.engine == "server":
        from spark_trainer.captioners.server import Server

        return Server(settings)
    return backend(settings.captioner_backend).load(settings, device, threads)


def model_name(settings: Captioning) -> str | None:
    """The configured model, else the backend's documented default."""
    return settings.model_name or backend(settings.captioner_backend).DEFAULT_MODEL


def prompt(settings: Captioning) -> str:
    """The configured prompt, else the backend's own."""
    return (
        backend(settings.captioner_backend).PROMPT if settings.prompt is None else settings.prompt
    )


def key(settings: Captioning) -> str:
    """Where the configuration names this captioner's model."""
    return f"caption.model_name ({settings.captioner_backend})"


def check(settings: Captioning) -> None:
    """Refuse a checkpoint that can't serve, as far as that can be told without loading it.

    Raises:
        ConfigError: a local checkpoint is not there, incomplete, or another backend's.
    """
    name = model_name(settings)
    if name is not None and settings.engine == "transformers":
        models.check(name, backend(settings.captioner_backend).MODEL_TYPES, key(settings))


def identity(settings: Captioning, cache: Path) -> str | None:
    """What the model's name stands for: a local folder's digest, a hub id's revision.

    Raises:
        ConfigError: as `check`.
    """
    check(settings)
    name = model_name(settings)
    return None if name is None else models.identity(name, cache, settings.revision)
