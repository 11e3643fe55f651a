"""Follow the person in a video, and write what Wan2.2-Animate is told of it; see `steps.pose`."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Pose
from spark_trainer.data.video import Quality, Writer
from spark_trainer.detectors import POINTS, Detector, Person, face, outline, skeleton
from spark_trainer.media import pictures
from spark_trainer.media.source import opened
from spark_trainer.steps.record import Facts, Record, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from spark_trainer.detectors.face import Boxes

FACE_PX = 512  # what Wan2.2-Animate's motion encoder takes
VIDEOS = ("pose.mp4", "face.mp4", "mask.mp4", "background.mp4")
WRITTEN_FIRST: dict[str, Quality] = {
    "pose.mp4": "exact",
    "mask.mp4": "exact",
    "background.mp4": "fine",
}
KEYPOINTS = "keypoints.npz"


@dataclass(frozen=True, kw_only=True)
class PoseRecord(Record):
    """How much of a person was found, in what, and by which models.

    Ranges are of frames, the first and the last one of each; sizes are in pixels.
    """

    frames: int | None = None
    fps: float | None = None
    people: int | None = None  # the most in one frame
    damaged: str | None = None
    width: int | None = None
    height: int | None = None
    person_lost: list[list[int]] | None = None
    face_lost: list[list[int]] | None = None
    face_bridged: int | None = None  # frames without a face between two with one
    detector: str | None = None
    models: Facts | None = None
    packages: Facts | None = None
    settings: Facts | None = None
    lost_face: str | None = None
    seconds: float | None = None
    made: str | None = None


def write(source: Path, folder: Path, settings: Pose, detector: Detector) -> PoseRecord:
    """Write all files of a video; returns what was found in it.

    Raises:
        ValueError: nothing of the source can be decoded.
        RuntimeError: the detector's own trouble.
    """
    people, count, size, complaints = _find(source, folder, settings, detector)
    seen = [person is not None for person in people]
    record = PoseRecord(
        frames=len(people),
        fps=settings.frame_rate,
        people=count,
        damaged=complaints[0] if complaints else None,
    )
    if not any(seen):
        small = f" of {settings.min_person_px} px or more" if count else ""
        return replace(record, status=Status.NONE, reason=f"no person{small} found")
    if sum(seen) < settings.min_share * len(seen):
        why = f"a person in {sum(seen)} of {len(seen)} frames only (pose.min_share)"
        return replace(record, status=Status.NONE, reason=why)
    boxes = face.boxes(people, size, settings)
    _write_faces(source, folder, settings, boxes)
    _write_keypoints(folder / KEYPOINTS, people, boxes, settings.frame_rate)
    found = [person is not None and person.has_face for person in people]
    cropped = [not math.isnan(box[0]) for box in boxes]
    return replace(
        record,
        width=size[0],
        height=size[1],
        person_lost=face.ranges([not one for one in seen]),
        face_lost=face.ranges([not one for one in cropped]),
        face_bridged=sum(cropped) - sum(found),
    )


def _find(
    source: Path, folder: Path, settings: Pose, detector: Detector
) -> tuple[list[Person | None], int, tuple[int, int], list[str]]:
    """Follow the person; write skeleton, mask and background on the way.

    Returns:
        The person of each frame, without the outline; the most people in a frame of one a second;
        width and height of what was written; what stopped the decoder.
    """
    import numpy as np
    from PIL import Image

    complaints: list[str] = []
    people: list[Person | None] = []
    counts: list[int] = []
    every = max(1, round(settings.frame_rate))
    frames = _frames(source, settings, complaints)
    first = next(frames)
    size, black = first.size, Image.new("RGB", first.size)
    with ExitStack() as stack:
        find = stack.enter_context(detector.following(settings.frame_rate))
        pose, mask, background = (
            stack.enter_context(Writer(folder / name, settings.frame_rate, size, quality))
            for name, quality in WRITTEN_FIRST.items()
        )
        for number, image in enumerate(chain([first], frames)):
            picture = np.asarray(image)
            person = _sure(find(picture), settings)
            white = outline.draw(person, size, settings.mask_threshold, settings.mask_growth_px)
            pose.add(skeleton.draw(person, size, settings.min_confidence))
            mask.add(white.convert("RGB"))
            background.add(Image.composite(black, image, white))
            people.append(None if person is None else replace(person, mask=np.empty(0, np.float32)))
            if number % every == 0:
                counts.append(detector.count(picture))
    return people, max(counts), size, complaints


def _sure(person: Person | None, settings: Pose) -> Person | None:
    """Return the person; None if no joint is certain, or it is too small to see its joints."""
    import numpy as np

    if person is None or person.body[:, 2].max() < settings.min_confidence:
        return None
    inside = person.mask >= settings.mask_threshold
    places = [np.flatnonzero(inside.any(axis=axis)) for axis in (0, 1)]
    sides = [int(place[-1] - place[0]) + 1 if len(place) else 0 for place in places]
    return person if max(sides) >= settings.min_person_px else None


def _frames(source: Path, settings: Pose, complaints: list[str]) -> "Iterator[Image]":
    """Yield frames on the grid, of the first one's size, with even sides as H.264 requires.

    One of another shape, which a file may turn to in its middle, is shown between black bars.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    limit = None
    if settings.max_seconds:
        limit = math.ceil(settings.max_seconds * settings.frame_rate - 1e-6)
    size: tuple[int, int] | None = None
    with opened(source) as file:
        for picture in islice(pictures.on_grid(pictures.read(file), settings.frame_rate), limit):
            image = picture.image()
            size = size or even_size(image.size, settings.max_side_px)
            yield ImageOps.pad(image, size, Resampling.LANCZOS)
        if complaint := file.complaint(pictures.video_stream(file)):
            complaints.append(complaint)


def even_size(size: tuple[int, int], max_side_px: int | None) -> tuple[int, int]:
    """Return width and height after shrinking, each rounded to an even number."""
    ratio = min(1.0, max_side_px / max(size)) if max_side_px else 1.0
    width, height = (max(2, 2 * round(side * ratio / 2)) for side in size)
    return width, height


def _write_faces(source: Path, folder: Path, settings: Pose, boxes: "Boxes") -> None:
    """Decode again and crop, now that the boxes of all frames are known."""
    from PIL import Image

    black = Image.new("RGB", (FACE_PX, FACE_PX))
    with Writer(folder / "face.mp4", settings.frame_rate, black.size, "fine") as video:
        for image, box in zip(_frames(source, settings, []), boxes.tolist(), strict=True):
            if math.isnan(box[0]):
                video.add(black)
                continue
            where = tuple(share * side for share, side in zip(box, image.size * 2, strict=True))
            video.add(image.resize(black.size, Image.Resampling.BICUBIC, box=where))


def _write_keypoints(path: Path, people: list[Person | None], boxes: "Boxes", rate: float) -> None:
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {
        name: np.stack(
            [
                np.zeros((points, 3), np.float32) if person is None else getattr(person, name)
                for person in people
            ]
        )
        for name, points in POINTS.items()
    }
    arrays |= {"face_box": boxes, "times": np.arange(len(people)) / rate}
    np.savez_compressed(path, allow_pickle=False, **arrays)
