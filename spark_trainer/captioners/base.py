"""The interface of every captioner, with its input and its errors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from spark_trainer.data import sample
from spark_trainer.errors import MachineError

if TYPE_CHECKING:
    from PIL.Image import Image

Prepared = dict[str, Any]  # the model's inputs for one video


@dataclass(frozen=True)
class Trouble:
    """The reason why a video gets no caption.

    `machine`: the machine is the cause, and the video is tried again. `details` are for the log,
    such as the trace of an unexpected error; with them the video counts as the cause only if a
    plain grey picture still gets a caption. `unread`: a frame's file can't be read, so it may no
    longer be what was written.
    """

    why: str
    machine: bool = False
    details: str = ""
    unread: bool = False


@dataclass(frozen=True)
class Shown:
    """Frames of one video in the order of time; `times` are seconds from the video's start.

    `label` is the caption that is given, for the backend that hands it on.
    """

    frames: tuple[Path, ...]
    times: tuple[float, ...]
    label: str | None = None

    def middle(self) -> "Shown":
        """Return the middle frame alone, for models that take one image."""
        half = len(self.frames) // 2
        return Shown((self.frames[half],), (self.times[half],))

    def images(self, max_side_px: int | None) -> "list[Image]":
        """Read the frames as RGB, shrunk so that the longer side is at most `max_side_px`.

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

    READS_FRAMES: ClassVar[bool] = True  # else nothing is prepared ahead, by other processes
    SIDE_BY_SIDE: ClassVar[bool] = False  # it captions each video by itself, many at the same time

    @abstractmethod
    def prepare(self, shown: Shown) -> Prepared:
        """Turn one video into the model's inputs; this runs in other processes, on the CPU.

        `length` counts the tokens or images, so that a batch holds videos of similar length.

        Raises:
            Unusable: a frame is no picture.
            OSError: a frame can't be read.
        """

    @abstractmethod
    def caption(self, batch: Sequence[Prepared]) -> Sequence[str | Trouble]:
        """Return a caption for each prepared video, or why one has none."""

    @property
    def facts(self) -> dict[str, Any]:
        """Return facts for the record beyond the settings: commit, dtype, device."""
        return {}

    def predict(self, image_path: Path) -> str:
        """Return the caption of one image."""
        return self.predict_batch([[image_path]])[0]

    def predict_batch(self, videos: Sequence[Sequence[Path]]) -> list[str]:
        """Return a caption for each video, given its frames in order of time, one second apart.

        Raises:
            Unusable: a video gets no caption; the message says why.
            MachineError: the same, but another try may succeed.
        """
        shown = [Shown(tuple(frames), tuple(map(float, range(len(frames))))) for frames in videos]
        return [_said(text) for text in self.caption([self.prepare(one) for one in shown])]


def _said(text: str | Trouble) -> str:
    if isinstance(text, Trouble):
        raise MachineError(text.why) if text.machine else sample.Unusable(text.why)
    return text
