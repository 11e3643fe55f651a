"""Which of a video's captions goes to the manifest; the others stay beside it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from spark_trainer import log
from spark_trainer.config import Select
from spark_trainer.data import models
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import Layout, Video
from spark_trainer.data.sample import Unusable
from spark_trainer.errors import of_machine, unexpected
from spark_trainer.steps import Context, Facts
from spark_trainer.steps.device import Wanted, device

VERSION = 2
UPSTREAM = ("caption",)
SETTINGS = Select

KEPT = ("caption", "model", "revision", "prompt")  # of each captioner's record

Captions = dict[str, Facts]  # captioner -> its record, where it has something to say
Scorer = Callable[[Video, Captions], list[float]]


def wanted(settings: Select) -> Wanted:
    """Only CLIP is worth a GPU."""
    return settings.device if settings.by == "score" else "cpu"


def identity(settings: Select, cache: Path) -> str | None:
    """What the name of the CLIP checkpoint stands for, where it is used."""
    if settings.by != "score":
        return None
    models.check(settings.model_name, ("clip",), "select.model_name")
    return models.identity(settings.model_name, cache, settings.revision)


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """The record itself is the result."""
    return []


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Select a caption of each video."""
    settings: Select = context.settings
    if settings.by != "score":
        scorer = {"first": _first, "longest": _longest, "agreement": _agreement}[settings.by]
        yield from (_select(video, context, scorer) for video in videos)
        return
    from spark_trainer.scores import ClipScore

    what = f"select, {len(videos)} videos"
    with device("select", settings.device, settings.gpu_fraction, context.gpus, what) as place:
        network = ClipScore(settings.model_name, settings.revision, place, context.workers)

        def fit(video: Video, captions: Captions) -> list[float]:
            folder = context.layout.frames(video)
            return [
                network([folder / name for name in record["frames"]], record["caption"])
                for record in captions.values()
            ]

        yield from (_select(video, context, fit) for video in videos)


def _select(video: Video, context: Context, scorer: Scorer) -> tuple[Video, Facts]:
    """Take the caption that scores best, the first of equals."""
    settings: Select = context.settings
    records: Captions = {
        name: read_json(context.layout.record(video, f"caption/{name}"))
        for name in settings.captioners
    }
    captions = {name: record for name, record in records.items() if record["caption"]}
    if not captions:
        why = next(iter(records.values()))["why"]
        return video, {"status": "none", "why": why, "caption": None}
    try:
        scored = scorer(video, captions)
    except Exception as error:
        return video, _unscored(video, error)
    best = max(range(len(scored)), key=scored.__getitem__)
    name, chosen = list(captions.items())[best]
    facts: Facts = {"status": "ok", "backend": name, "by": settings.by}
    facts |= {key: chosen[key] for key in (*KEPT, "frames")}
    if len(records) > 1:
        from spark_trainer import scores

        texts = [record["caption"] for record in captions.values()]
        facts["agreement"] = round(sum(scores.agreement(texts)) / len(texts), 4)
        by_name = dict(zip(captions, scored, strict=True))
        facts["captions"] = {
            other: {key: record.get(key) for key in KEPT} | {"score": round(by_name[other], 4)}
            if other in by_name
            else None
            for other, record in records.items()
        }
    return video, facts


def _unscored(video: Video, error: Exception) -> Facts:
    """The record of a video whose captions can't be compared.

    Raises:
        MachineError: the device failed.
    """
    if of_machine(error):
        return {"status": "failed", "why": str(error), "reason": str(error), "caption": None}
    if isinstance(error, Unusable):
        return {"status": "none", "why": str(error), "caption": None, "unread": True}
    log.logger.error("select %s", video.hash[:12], exc_info=error)
    return {"status": "none", "why": unexpected(error), "caption": None}


def _first(video: Video, captions: Captions) -> list[float]:
    return [-float(place) for place in range(len(captions))]


def _longest(video: Video, captions: Captions) -> list[float]:
    return [float(len(record["caption"].split())) for record in captions.values()]


def _agreement(video: Video, captions: Captions) -> list[float]:
    from spark_trainer import scores

    return scores.agreement([record["caption"] for record in captions.values()])
