"""Still frames of a video at a steady rate, each with the time it is shown at."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spark_trainer.config import Frames
from spark_trainer.data import sources
from spark_trainer.data.files import replacing_folder
from spark_trainer.data.layout import Layout, Video, frame_name
from spark_trainer.errors import Refused
from spark_trainer.steps.base import Context, Step
from spark_trainer.steps.parallel import each
from spark_trainer.steps.record import Facts, Record
from spark_trainer.system.workers import Limits, Workers

EXTRACT = "spark_trainer.media.stills:extract"


@dataclass(frozen=True, kw_only=True)
class FramesRecord(Record):
    """Times in seconds, sizes in pixels, and what the decoder saw; see `media.stills.extract`."""

    times: Sequence[float] = ()
    duration: float | None = None
    container_duration: float | None = None
    fps: float | None = None
    container_fps: float | None = None
    width: int | None = None
    height: int | None = None
    codec: str | None = None
    motion: float | None = None
    dynamic_range: str | None = None
    interlaced: bool | None = None
    damaged: str | None = None


class FramesStep(Step[Frames, FramesRecord]):
    """A folder of JPEG files."""

    VERSION = 3
    SETTINGS = Frames
    RECORD = FramesRecord

    def packages(self, settings: Frames) -> tuple[str, Sequence[str]]:
        """Name PyAV, which reads the videos."""
        return self.word, ("av",)

    def files(self, layout: Layout, video: Video, record: FramesRecord) -> list[Path]:
        """Name the first and last frame: a folder is moved into place as a whole."""
        if not record.ok:
            return []
        inside = folder(layout, video)
        return [inside / frame_name(1), inside / frame_name(len(record.times))]

    def produce(
        self, videos: list[Video], context: Context[Frames]
    ) -> Iterator[tuple[Video, FramesRecord]]:
        """Extract the frames of each video, one process per core."""
        settings = context.settings
        limits = Limits(settings.max_cpu_s, settings.max_memory_gb)
        with Workers(min(context.workers, len(videos)), limits, "frames") as workers:
            yield from each(self, partial(_extract, workers), videos, context)

    def manifest_fields(self, video: Video, record: FramesRecord) -> Facts:
        """Return the folder, the frames' times, and what is named alike here and there."""
        facts = record.to_json()
        alike = {key: facts.get(key) for key in Frames.MANIFEST}
        return alike | {"frames_dir": f"{video.folder}/frames", "frame_times": record.times}


STEP = FramesStep


def folder(layout: Layout, video: Video) -> Path:
    """Name the folder of a video's frames."""
    return layout.folder(video) / "frames"


def _extract(workers: Workers, video: Video, context: Context[Frames]) -> FramesRecord:
    settings = context.settings
    source = sources.find(context.layout, video)
    target = folder(context.layout, video)
    shutil.rmtree(target, ignore_errors=True)
    try:
        with replacing_folder(target) as temporary:
            facts: Facts = workers.call(EXTRACT, *arguments(source, temporary, settings))
            sources.find(context.layout, video)  # still the file that was indexed
            damage = f"damaged: {facts['damaged']}" if facts.get("damaged") else None
            if damage and settings.damaged == "reject":
                raise Refused(damage)
    except Refused as error:
        return FramesRecord.rejected(str(error))
    return FramesRecord(warning=damage, **facts)


def arguments(source: Path, folder: Path, settings: Frames) -> tuple[object, ...]:
    """Return what `media.stills.extract` takes."""
    return (
        str(source),
        str(folder),
        settings.frame_rate,
        settings.jpeg_qscale,
        settings.max_side_px,
        settings.deinterlace,
        settings.max_megapixels,
        settings.max_frames,
    )
