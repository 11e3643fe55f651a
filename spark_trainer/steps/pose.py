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

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from spark_trainer import detectors
from spark_trainer.config import ConfigError, Pose
from spark_trainer.data import sources
from spark_trainer.data.files import replacing_folder
from spark_trainer.data.layout import Layout, Video
from spark_trainer.detectors import Detector
from spark_trainer.steps import person
from spark_trainer.steps.base import Checkpoint, Context, Step, at_hub
from spark_trainer.steps.device import Wanted, device
from spark_trainer.steps.person import KEYPOINTS, VIDEOS, PoseRecord
from spark_trainer.steps.record import Facts
from spark_trainer.system import environment, log
from spark_trainer.system.memory import OutOfMemory


class PoseStep(Step[Pose, PoseRecord]):
    """A folder of four videos and the keypoints."""

    VERSION = 1
    SETTINGS = Pose
    RECORD = PoseRecord

    def wanted(self, settings: Pose) -> Wanted:
        """Ask for what is configured; a detector that is fast enough anywhere leaves GPUs alone."""
        return settings.device if detectors.backend(settings.detector).NEEDS_GPU else "cpu"

    def identity(self, settings: Pose, cache: Path) -> Facts | None:
        """Return what decides the detector's results, such as its models, where it is used."""
        if not settings.enabled:
            return None
        return detectors.backend(settings.detector).identity(settings, cache)

    def packages(self, settings: Pose) -> tuple[str, Sequence[str]]:
        """Name the detector's."""
        backend = detectors.backend(settings.detector)
        return f"pose.detector: {settings.detector}", backend.PACKAGES

    def checkpoints(self, settings: Pose) -> Iterator[Checkpoint]:
        """Yield those that the settings name, where the detector reads them."""
        if settings.detector == "vitpose":
            for key in ("person_model", "keypoint_model", "mask_model"):
                name, _, revision = getattr(settings, key).partition("@")
                yield at_hub(f"pose.{key}", name, revision or None)

    def files(self, layout: Layout, video: Video, record: PoseRecord) -> list[Path]:
        """Name every file: the folder is moved into place as a whole."""
        if not record.ok:
            return []
        return [folder(layout, video) / name for name in (*VIDEOS, KEYPOINTS)]

    def produce(
        self, videos: list[Video], context: Context[Pose]
    ) -> Iterator[tuple[Video, PoseRecord]]:
        """Prepare each video.

        Raises:
            ConfigError: no GPU where one is wanted, or a checkpoint that can't be loaded.
            OutOfMemory: it does not fit.
        """
        needs_gpu = detectors.backend(context.settings.detector).NEEDS_GPU
        yield from _with_one_detector(videos, context) if needs_gpu else _each_core(videos, context)

    def manifest_fields(self, video: Video, record: PoseRecord) -> Facts:
        """Return where the person's videos lie and in which frames it is missing, or why none."""
        found = record.to_json() | {"dir": f"{video.folder}/pose"} if record.ok else None
        return {"pose": found, "no_pose": record.reason}


STEP = PoseStep


def folder(layout: Layout, video: Video) -> Path:
    """Name the folder of a video's prepared files."""
    return layout.folder(video) / "pose"


def _with_one_detector(
    videos: list[Video], context: Context[Pose]
) -> Iterator[tuple[Video, PoseRecord]]:
    """Prepare one video after the other, with models that are loaded once."""
    settings = context.settings
    what = f"pose/{settings.detector}, {len(videos)} videos"
    with device("pose", settings.device, settings.gpu_fraction, context.gpus, what) as place:
        began = time.monotonic()
        detector = detectors.backend(settings.detector).load(settings, place, context.workers)
        spent = time.monotonic() - began
        log.logger.info("pose/%s: loaded on %s in %.1f s", settings.detector, place, spent)
        for video in videos:
            yield video, prepare(video, context, detector)


def _each_core(videos: list[Video], context: Context[Pose]) -> Iterator[tuple[Video, PoseRecord]]:
    """Prepare videos in a process per core: MediaPipe works in no thread and after no fork."""
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


def _in_worker(video: Video, context: Context[Pose]) -> PoseRecord:
    return prepare(video, context, _loaded[0])


def prepare(video: Video, context: Context[Pose], detector: Detector) -> PoseRecord:
    """Write a video's files and say what is in them.

    Raises:
        OutOfMemory: the models do not fit.
    """
    source = sources.find(context.layout, video)
    target = folder(context.layout, video)
    shutil.rmtree(target, ignore_errors=True)
    started = time.monotonic()
    try:
        with replacing_folder(target) as temporary:
            record = person.write(source, temporary, context.settings, detector)
        if not record.ok:
            shutil.rmtree(target, ignore_errors=True)
    except (ConfigError, OutOfMemory):
        raise
    except ValueError as error:
        record = PoseRecord.nothing(str(error))
    except RuntimeError as error:
        record = PoseRecord.failed(str(error))
    return replace(
        record,
        seconds=round(time.monotonic() - started, 3),
        more=detector.facts,
        **_origin(context),
    )


def _origin(context: Context[Pose]) -> Facts:
    """Return what every record tells of where its files come from."""
    settings = context.settings
    backend = detectors.backend(settings.detector)
    packages = ("av", *backend.PACKAGES, "numpy", "pillow")
    return {
        "detector": settings.detector,
        "models": backend.identity(settings, context.layout.model_digests)["models"],
        "packages": environment.versions(packages),
        "settings": settings.results(),
        "lost_face": "black",
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
