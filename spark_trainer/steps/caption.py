"""One caption for each video, from a few of its frames."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from spark_trainer import captioners
from spark_trainer.config import Caption
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import Layout, Video, frame_name
from spark_trainer.steps import Context, Facts

VERSION = 1
UPSTREAM = ("frames",)


def identity(settings: Caption, cache: Path) -> list[str | None]:
    """The backend and its weights."""
    return captioners.identity(settings, cache)


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """The record itself is the result."""
    return []


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Caption the videos in batches with one loaded model."""
    settings: Caption = context.settings
    shown: list[tuple[Video, list[Path]]] = []
    for video in videos:
        record = read_json(context.layout.record(video, "frames"))
        if record["status"] == "ok":
            shown.append((video, _choose(context.layout, video, record, settings.num_frames)))
        else:
            yield video, {"status": "none", "why": record["reason"], "caption": None}
    if not shown:
        return
    captioner = captioners.load(settings, context.workers)
    rest = iter(shown)
    while batch := list(islice(rest, settings.batch_size)):
        captions = captioner.predict_batch([frames for _, frames in batch])
        for (video, frames), caption in zip(batch, captions, strict=True):
            facts: Facts = {
                "status": "ok",
                "caption": caption,
                "backend": settings.captioner_backend,
                "model": captioners.model_name(settings),
                "frames": [frame.name for frame in frames],
            }
            yield video, facts


def _choose(layout: Layout, video: Video, record: Facts, num_frames: int) -> list[Path]:
    """At most `num_frames` frames, evenly spread, each the middle of its share."""
    total = len(record["times"])
    count = min(num_frames, total)
    numbers = [int((i + 0.5) * total / count) + 1 for i in range(count)]
    return [layout.frames(video) / frame_name(number) for number in numbers]
