"""One sample: what is read of a video, from which files, and why it can't be used.

It is planned first (dataset.py), from its manifest line, the settings and a seed; then read.
"""

import contextlib
import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Sampling
from spark_trainer.data import video
from spark_trainer.data.layout import Layout, frame_name
from spark_trainer.data.video import Resizing
from spark_trainer.errors import ABSENT, Refused, of_machine
from spark_trainer.media import pictures
from spark_trainer.media.render import Deinterlace

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]  # width and height in pixels
REFERENCE = "reference"


class Unusable(Refused):
    """A sample can't be used; the message says why."""


@dataclass(frozen=True)
class Needs:
    """What a family reads of a video beside its frames.

    `text` says whether an answer is read, `text_is_length` whether a longer one makes a longer
    sample. The others name videos of the same moments: all of `conditions`, and all or none of
    `optional_conditions`, which `clip.replace` asks for. Each is a file of the `pose` step, or a
    folder of images numbered like the frames that `meta` calls `<name>_dir`. `reference` is neither
    but a frame of the video.
    """

    text: bool = True
    conditions: tuple[str, ...] = ()
    optional_conditions: tuple[str, ...] = ()
    text_is_length: bool = True


@dataclass(frozen=True)
class Sample:
    """Frames of a video in the order of time, a prompt about them, and the answer to learn.

    `times` are seconds from the video's start; `prompt` is None where the family's own is meant.
    `size` is that of the frames where `clip.sizes` asks for one; `conditions` holds the videos that
    the family's needs name. `seed` is for random choices in training, such as noise; `variant` for
    those that belong to the frames themselves. `meta` is what the manifest says of the video and,
    with `text.each`, of the item.
    """

    video: str
    images: "tuple[Image, ...]"
    times: tuple[float, ...]
    prompt: str | None
    answer: str
    seed: int = 0
    size: Size | None = None
    conditions: "Mapping[str, tuple[Image, ...]]" = field(default_factory=dict)
    variant: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frame_size(self) -> Size:
        """Return width and height of the frames as the model sees them."""
        return self.size or self.images[0].size


@dataclass(frozen=True)
class Plan:
    """What a sample will show and say; no file is read yet.

    `conditions` gives the seconds to read from each video beside the frames; the other fields are
    as in `Sample`.
    """

    entry: Mapping[str, Any]
    times: tuple[float, ...]
    prompt: str | None
    answer: str
    size: Size | None
    mirrored: bool
    conditions: Mapping[str, tuple[float, ...]]
    seed: int
    variant: int
    meta: Mapping[str, Any] = field(default_factory=dict)


def read(plan: Plan, settings: Sampling, layout: Layout) -> Sample:
    """Read and decode a sample.

    Raises:
        Unusable: a frame or the video can't be read.
    """
    images = _frames(plan, settings, layout)
    conditions = {name: _condition(plan, name, layout) for name in plan.conditions}
    if plan.mirrored:
        images = video.mirrored(images)
        conditions = {name: video.mirrored(shown) for name, shown in conditions.items()}
    return Sample(
        plan.entry["id"],
        images,
        plan.times,
        plan.prompt,
        plan.answer,
        plan.seed,
        plan.size,
        conditions,
        plan.variant,
        plan.meta,
    )


def files(plan: Plan, settings: Sampling, layout: Layout) -> list[Path]:
    """List the files that the frames of a sample are read from."""
    found = _files(plan, settings, layout)
    for name in plan.conditions:
        found += _condition_files(plan, name, layout)
    return found


def _files(plan: Plan, settings: Sampling, layout: Layout) -> list[Path]:
    if settings.source == "video":
        return [layout.located(plan.entry["id"])]
    return _images(layout.root / plan.entry["frames_dir"], plan.entry["meta"], plan.times)


def _condition_files(plan: Plan, name: str, layout: Layout) -> list[Path]:
    meta, times = plan.entry["meta"], plan.conditions[name]
    if name == REFERENCE:
        return _images(layout.root / plan.entry["frames_dir"], meta, times)
    if meta.get(f"{name}_dir"):
        return _images(layout.root / meta[f"{name}_dir"], meta, times)
    return [layout.root / meta["pose"]["dir"] / f"{name}.mp4"]


def _images(folder: Path, meta: Mapping[str, Any], times: tuple[float, ...]) -> list[Path]:
    """List the images of a folder at these times, each numbered like the frame at that time."""
    known = list(meta.get("frame_times") or (0.0,))
    paths = [folder / frame_name(known.index(time) + 1) for time in times]
    others = [path.with_suffix(".png") for path in paths]
    return [
        other if other.exists() and not path.exists() else path
        for path, other in zip(paths, others, strict=True)
    ]


def _frames(plan: Plan, settings: Sampling, layout: Layout) -> "tuple[Image, ...]":
    """Read the video's frames, cropped to the plan's size, or shrunk."""
    found = _files(plan, settings, layout)
    resizing = Resizing(plan.size, settings.max_side_px)
    if settings.source == "video":
        decoded = _decoded(found[0], plan.times, settings.deinterlace)
        return tuple(map(resizing.applied, decoded))
    scaled = settings.jpeg_decoding == "scaled"
    return tuple(_resized(path, resizing, scaled) for path in found)


def _condition(plan: Plan, name: str, layout: Layout) -> "tuple[Image, ...]":
    """Read a video that the family's needs name, as it is on disk."""
    found = _condition_files(plan, name, layout)
    if found[0].suffix == ".mp4":
        return tuple(_decoded(found[0], plan.conditions[name]))
    return _opened(found)


def _decoded(
    path: Path, times: tuple[float, ...], deinterlace: Deinterlace = "auto"
) -> "Iterator[Image]":
    """Decode a video's frames at these times, one by one: a clip of them may take 100 MB."""
    with promised(path), _readable(path):
        yield from (picture.image(deinterlace) for picture in pictures.at(path, times))


def _resized(path: Path, resizing: Resizing, scaled: bool) -> "Image":
    """Read a frame at the size at which it is shown.

    Args:
        path: the file.
        resizing: how it comes to that size.
        scaled: decode no more of a JPEG than that needs.
    """
    from PIL import Image

    with promised(path), _readable(path), Image.open(path) as image:
        return resizing.decoded(image) if scaled else resizing.applied(image)


def _opened(paths: list[Path]) -> "tuple[Image, ...]":
    images = []
    for path in paths:
        with promised(path):
            images.append(opened(path))
    return tuple(images)


def opened(path: Path) -> "Image":
    """Read an image file as RGB.

    Raises:
        Unusable: it can't be decoded.
        OSError: it is missing, or the machine can't read it.
    """
    from PIL import Image

    with _readable(path), Image.open(path) as image:
        return image.convert("RGB")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn a decoder's complaint about a file's bytes, of any class, into `Unusable`."""
    try:
        yield
    except Exception as error:
        if of_machine(error):
            raise
        raise Unusable(f"{path}: {error}") from None


@contextlib.contextmanager
def promised(path: Path) -> Iterator[None]:
    """Turn the absence of a file that a manifest names into `Unusable`."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, ABSENT) and error.errno != errno.ELOOP:
            raise
        raise Unusable(f"{path}: {error.strerror}") from None
