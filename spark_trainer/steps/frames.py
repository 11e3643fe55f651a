"""Still frames of a video at a steady rate, each with the time it is shown at."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from spark_trainer.config import Frames
from spark_trainer.data.files import replacing_folder
from spark_trainer.data.layout import Layout, Video, frame_name
from spark_trainer.errors import Refused
from spark_trainer.steps import Context, Facts, shard
from spark_trainer.steps.device import Wanted
from spark_trainer.workers import Limits, Workers

VERSION = 3
EXTRACT = "spark_trainer.media.stills:extract"
UPSTREAM = ()
SETTINGS = Frames


def wanted(settings: Frames) -> Wanted:
    """Decoding runs on the CPU."""
    return "cpu"


def identity(settings: Frames, cache: Path) -> None:
    """Nothing but the settings decides the frames."""


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """The first and last frame: a folder is moved into place as a whole."""
    if record.get("status") != "ok":
        return []
    folder = layout.frames(video)
    return [folder / frame_name(1), folder / frame_name(len(record["times"]))]


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Extract the frames of each video, one process per core."""
    settings: Frames = context.settings
    limits = Limits(settings.max_cpu_s, settings.max_memory_gb)
    with Workers(min(context.workers, len(videos)), limits, "frames") as workers:
        yield from shard.each(partial(_extract, workers), videos, context)


def _extract(workers: Workers, video: Video, context: Context) -> Facts:
    settings: Frames = context.settings
    source = shard.source(context.layout, video)
    folder = context.layout.frames(video)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with replacing_folder(folder) as temporary:
            facts: Facts = workers.call(EXTRACT, *arguments(source, temporary, settings))
            shard.source(context.layout, video)  # still the file that was indexed
            if facts.get("damaged") and settings.damaged == "reject":
                raise Refused(f"damaged: {facts['damaged']}")
    except Refused as error:
        return {"status": "rejected", "reason": str(error)}
    reason = {"reason": f"damaged: {facts['damaged']}"} if "damaged" in facts else {}
    return {"status": "ok"} | facts | reason


def arguments(source: Path, folder: Path, settings: Frames) -> tuple[object, ...]:
    """What `media.stills.extract` takes."""
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
