"""What Wan2.2-Animate is told of a video: skeleton, face, mask and background of one person.

Five files below `pose/`, all of them or none. Frame k of each video, and row k of each array, is of
the moment k / rate: the frame that `media.pictures.at(source, [k / rate])` gives.

pose.mp4          the skeleton on black; black where no person was found
face.mp4          the face, 512 × 512; where it was lost black: -1, as Wan's guidance blanks it
mask.mp4          white where the person is
background.mp4    the video, black where the mask is white
keypoints.npz     `body`, `left_hand`, `right_hand`, `face` (frames, points, 3) as in `detectors`;
                  `face_box` (frames, 4): left, top, right, bottom of the crop, NaN where lost;
                  `times` (frames) in seconds
"""

import math
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer import detectors, environment, log
from spark_trainer.config import ConfigError, Pose
from spark_trainer.data.files import replacing_folder
from spark_trainer.data.layout import Layout, Video
from spark_trainer.data.video import Quality, Writer
from spark_trainer.detectors import POINTS, Detector, Person, face, outline, skeleton
from spark_trainer.media import pictures
from spark_trainer.media.source import opened
from spark_trainer.memory import OutOfMemory
from spark_trainer.steps import Context, Facts, shard
from spark_trainer.steps.device import Wanted, device

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from spark_trainer.detectors.face import Boxes

VERSION = 1
UPSTREAM = ()
SETTINGS = Pose

FACE_PX = 512  # what Wan2.2-Animate's motion encoder takes
VIDEOS = ("pose.mp4", "face.mp4", "mask.mp4", "background.mp4")
WRITTEN_FIRST: dict[str, Quality] = {
    "pose.mp4": "exact",
    "mask.mp4": "exact",
    "background.mp4": "fine",
}
KEYPOINTS = "keypoints.npz"


def wanted(settings: Pose) -> Wanted:
    """As configured; a detector that is fast enough anywhere leaves GPUs alone."""
    return settings.device if detectors.backend(settings.detector).NEEDS_GPU else "cpu"


def identity(settings: Pose, cache: Path) -> Facts | None:
    """What decides the detector's results, such as its models' digests, where it is used."""
    return (
        detectors.backend(settings.detector).identity(settings, cache) if settings.enabled else None
    )


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """Every file: the folder is moved into place as a whole."""
    if record.get("status") != "ok":
        return []
    return [layout.pose(video) / name for name in (*VIDEOS, KEYPOINTS)]


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Prepare each video.

    Raises:
        ConfigError: no GPU where one is wanted, or a checkpoint that can't be loaded.
        OutOfMemory: it does not fit.
    """
    settings: Pose = context.settings
    needs_gpu = detectors.backend(settings.detector).NEEDS_GPU
    yield from _with_one_detector(videos, context) if needs_gpu else _each_core(videos, context)


def _with_one_detector(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """One video after the other, with models that are loaded once."""
    settings: Pose = context.settings
    what = f"pose/{settings.detector}, {len(videos)} videos"
    with device("pose", wanted(settings), settings.gpu_fraction, context.gpus, what) as place:
        began = time.monotonic()
        detector = detectors.backend(settings.detector).load(settings, place, context.workers)
        spent = time.monotonic() - began
        log.logger.info("pose/%s: loaded on %s in %.1f s", settings.detector, place, spent)
        for video in videos:
            yield video, prepare(video, context, detector)


def _each_core(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """One process per core: MediaPipe bears neither threads nor a fork."""
    spawn = multiprocessing.get_context("spawn")
    workers = min(context.workers, len(videos))
    with ProcessPoolExecutor(workers, spawn, _start, (context.settings,)) as pool:
        futures = {pool.submit(_in_worker, video, context): video for video in videos}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


_loaded: list[Detector] = []  # of a worker process, one


def _start(settings: Pose) -> None:
    """Load a worker's detector; what its C++ prints goes nowhere, Python keeps standard error."""
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    _loaded.append(detectors.backend(settings.detector).load(settings, "cpu", 1))


def _in_worker(video: Video, context: Context) -> Facts:
    return prepare(video, context, _loaded[0])


def prepare(video: Video, context: Context, detector: Detector) -> Facts:
    """Write a video's files; returns what the record tells.

    Raises:
        OutOfMemory: the models do not fit.
    """
    settings: Pose = context.settings
    source = shard.source(context.layout, video)
    folder = context.layout.pose(video)
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    try:
        with replacing_folder(folder) as temporary:
            facts = _write(source, temporary, settings, detector)
        if facts["status"] != "ok":
            shutil.rmtree(folder, ignore_errors=True)
    except (ConfigError, OutOfMemory):
        raise
    except ValueError as error:
        facts = {"status": "none", "why": str(error)}
    except RuntimeError as error:
        facts = {"status": "failed", "why": str(error), "reason": str(error)}
    return facts | _origin(context, detector) | {"seconds": round(time.monotonic() - started, 3)}


def _origin(context: Context, detector: Detector) -> Facts:
    """What every record tells of where its files come from."""
    settings: Pose = context.settings
    backend = detectors.backend(settings.detector)
    packages = ("av", *backend.PACKAGES, "numpy", "pillow")
    return {
        "detector": settings.detector,
        "models": backend.identity(settings, context.layout.model_digests)["models"],
        "packages": environment.versions(packages),
        "settings": settings.results(),
        "lost_face": "black",
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **detector.facts,
    }


def _write(source: Path, folder: Path, settings: Pose, detector: Detector) -> Facts:
    """Write all files.

    Raises:
        ValueError: nothing of the source can be decoded.
        RuntimeError: the detector's own trouble.
    """
    people, count, size, complaints = _find(source, folder, settings, detector)
    seen = [person is not None for person in people]
    facts: Facts = {"frames": len(people), "fps": settings.frame_rate, "people": count}
    if complaints:
        facts["damaged"] = complaints[0]
    if not any(seen):
        small = f" of {settings.min_person_px} px or more" if count else ""
        return facts | {"status": "none", "why": f"no person{small} found"}
    if sum(seen) < settings.min_share * len(seen):
        why = f"a person in {sum(seen)} of {len(seen)} frames only (pose.min_share)"
        return facts | {"status": "none", "why": why}
    boxes = face.boxes(people, size, settings)
    _write_faces(source, folder, settings, boxes)
    _write_keypoints(folder / KEYPOINTS, people, boxes, settings.frame_rate)
    found = [person is not None and person.has_face for person in people]
    cropped = [not math.isnan(box[0]) for box in boxes]
    return facts | {
        "status": "ok",
        "width": size[0],
        "height": size[1],
        "person_lost": face.ranges([not one for one in seen]),
        "face_lost": face.ranges([not one for one in cropped]),
        "face_bridged": sum(cropped) - sum(found),
    }


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
    """The person, unless no joint is sure, or it is too small for joints to be told apart."""
    import numpy as np

    if person is None or person.body[:, 2].max() < settings.min_confidence:
        return None
    inside = person.mask >= settings.mask_threshold
    places = [np.flatnonzero(inside.any(axis=axis)) for axis in (0, 1)]
    sides = [int(place[-1] - place[0]) + 1 if len(place) else 0 for place in places]
    return person if max(sides) >= settings.min_person_px else None


def _frames(source: Path, settings: Pose, complaints: list[str]) -> "Iterator[Image]":
    """Frames on the grid, of the first one's size, with even sides as H.264 wants them.

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
    """Width and height after shrinking, each to the next even number."""
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
