"""What every data set is to those that read it: numbered samples of the videos of one split."""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spark_trainer.data.manifest import entry_at
from spark_trainer.system import log

if TYPE_CHECKING:
    import numpy as np

SHORT = 12  # digits of a hash, as in every line of a log
# Looks whether a reference can be read, with what the manifest says of its video; or Unusable.
Check = Callable[[str, Mapping[str, Any]], None]


def named(entry: Mapping[str, Any]) -> str:
    """Name a video for people; by the hash in it a line goes when its video is forgotten."""
    path, identity = entry["meta"].get("source_path"), str(entry["id"])
    return f"{log.plain(path)} ({identity[:SHORT]})" if path else identity


class LeftOut(NamedTuple):
    """A video of which no sample can be used, as `named` calls it, and why."""

    video: str
    reason: str

    def __str__(self) -> str:
        return f"{self.video}: {self.reason}"


class Samples(ABC):
    """The samples of one split of a manifest.

    Sample numbers go on from one epoch to the next: `number // len` is the epoch.

    Attributes:
        left_out: the videos of which no sample can be used.
        remarks: what else is to be known of the data, a line each.
        check: what else the answer of a sample is for; None where it is learnt.
    """

    def __init__(self, manifest: Path, fixed: bool) -> None:
        """Begin with no video.

        Args:
            manifest: the JSON lines.
            fixed: random choices depend on the video alone, not on the run's seed or the epoch, so
                that held-out samples are the same in every run.
        """
        self._manifest, self._fixed = manifest, fixed
        self._offsets = array("q")
        self._ends = array("q")  # number of the first sample after each video's
        self.left_out: list[LeftOut] = []
        self.remarks: list[str] = []
        self.check: Check | None = None

    @abstractmethod
    def add(self, entry: dict[str, Any], offset: int) -> None:
        """Take in a manifest line that starts at byte `offset`."""

    @abstractmethod
    def lengths(self) -> "np.ndarray":
        """Return a measure of each sample's length, shape (samples,); only its order counts."""

    @abstractmethod
    def work(self) -> "np.ndarray":
        """Return about how much there is to compute of each sample, shape (samples,)."""

    @abstractmethod
    def plan(self, number: int) -> Any:
        """Choose what a sample is, without reading anything of it.

        Raises:
            Unusable: there is no such sample.
        """

    @abstractmethod
    def read(self, plan: Any) -> Any:
        """Read what was planned.

        Raises:
            Unusable: it can't be read.
        """

    @property
    @abstractmethod
    def num_encoded(self) -> int:
        """Return the number of plans that are encoded ahead."""

    @abstractmethod
    def encoded_plan(self, number: int) -> Any:
        """Choose what is encoded ahead; raises as `plan`."""

    @abstractmethod
    def shown(self, num_videos: int) -> list[int]:
        """Return the numbers of the samples that show what is made of the first videos."""

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> Any:
        """Read a sample.

        Raises:
            Unusable: it can't be read.
        """
        return self.read(self.plan(number))

    @property
    def num_videos(self) -> int:
        """Return the number of usable videos of this split."""
        return len(self._offsets)

    def first_of_each_video(self) -> list[int]:
        """Return the number of one sample of each video, in the manifest's order."""
        return [0, *self._ends[:-1]] if self._ends else []

    def video(self, number: int) -> str:
        """Return the id of a sample's video."""
        entry = entry_at(self._manifest, self._offsets[self._owner(number % len(self))])
        return str(entry["id"])

    def _owner(self, within: int) -> int:
        """Return the position of the video that a sample number of the first epoch belongs to."""
        return bisect_right(self._ends, within)
