"""What a trainer reads of a manifest: which videos, which of their frames, in which order.

Memory grows by eight bytes a video and a byte a frame count, not with the captions: lines are
found by their byte offset and parsed when they are needed.
"""

import hashlib
import json
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from spark_trainer.config import Split
from spark_trainer.data.layout import frame_name

if TYPE_CHECKING:
    from PIL.Image import Image

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Sample:
    """An image and the text that belongs to it."""

    video: str
    image: "Image"
    text: str


@dataclass(frozen=True)
class Unusable:
    """Why a sample can't be used."""

    reason: str


def part_of(video_hash: str, split: Split) -> Part:
    """Which part a video belongs to: its hash decides, so another video never moves it."""
    text = f"{split.seed}:{video_hash}".encode()
    share = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
    if share < split.validation:
        return "validation"
    return "test" if share < split.validation + split.test else "train"


class CaptionedFrames:
    """Frames of one part of a manifest, each with its video's caption.

    Args:
        manifest: the JSON lines.
        root: what `frames_dir` is relative to.
        split: how videos are divided.
        part: which of the parts.
        frames_per_video: at most this many frames of a video, evenly spread.
    """

    def __init__(
        self, manifest: Path, root: Path, split: Split, part: Part, frames_per_video: int
    ) -> None:
        self._manifest = manifest
        self._root = root
        self._offsets = array("q")
        self._owners = array("q")
        self._numbers = array("l")
        self.left_out: list[str] = []
        offset = 0
        with open(manifest, "rb") as file:
            for line in file:
                entry = json.loads(line)
                if part_of(entry["id"], split) == part:
                    self._add(entry, offset, frames_per_video)
                offset += len(line)

    def _add(self, entry: dict[str, object], offset: int, frames_per_video: int) -> None:
        meta = entry["meta"]
        assert isinstance(meta, dict)
        if entry["frames_dir"] is None or not meta.get("caption"):
            lacks = "frames" if entry["frames_dir"] is None else "a caption"
            self.left_out.append(f"{entry['id']}: without {lacks}")
            return
        self._offsets.append(offset)
        total = len(meta.get("frame_times", ())) or 1
        count = min(total, frames_per_video)
        for i in range(count):
            self._owners.append(len(self._offsets) - 1)
            self._numbers.append(int((i + 0.5) * total / count) + 1)

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def num_videos(self) -> int:
        """Usable videos of this part."""
        return len(self._offsets)

    def first_of_each_video(self) -> list[int]:
        """Index of one sample per video, in the manifest's order."""
        seen: dict[int, int] = {}
        for index, owner in enumerate(self._owners):
            seen.setdefault(owner, index)
        return list(seen.values())

    def __getitem__(self, index: int) -> Sample | Unusable:
        from PIL import Image

        with open(self._manifest, "rb") as file:
            file.seek(self._offsets[self._owners[index]])
            entry = json.loads(file.readline())
        path = self._root / entry["frames_dir"] / frame_name(self._numbers[index])
        try:
            with Image.open(path) as image:
                return Sample(entry["id"], image.convert("RGB"), entry["meta"]["caption"])
        except OSError as error:
            return Unusable(f"{path}: {error.strerror or error}")


def order(num_samples: int, seed: int, start: int = 0) -> Iterator[int]:
    """Sample numbers for ever, one shuffled pass after the other, from position `start` on.

    The position alone decides what comes next, so a resumed run needs no other data state.
    """
    epoch, skipped = divmod(start, num_samples)
    while True:
        numbers = list(range(num_samples))
        random.Random(f"{seed}:{epoch}").shuffle(numbers)  # noqa: S311  # no secret
        yield from numbers[skipped:]
        epoch, skipped = epoch + 1, 0
