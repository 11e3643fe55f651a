"""Which of a video's captions goes to the manifest; the others stay beside it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from spark_trainer.config import Config, Select
from spark_trainer.data import corrected, models
from spark_trainer.data.corrections import HAND
from spark_trainer.data.layout import Layout, Video
from spark_trainer.data.sample import Unusable
from spark_trainer.errors import MachineError, of_machine, told, unexpected
from spark_trainer.steps import frames
from spark_trainer.steps.base import Checkpoint, Context, Step, at_hub
from spark_trainer.steps.caption import CaptionRecord
from spark_trainer.steps.device import Wanted, device
from spark_trainer.steps.record import ALWAYS, Facts, Record, Status
from spark_trainer.system import environment, log

KEPT = ("caption", "model", "revision", "prompt")  # of each captioner's record

Captions = dict[str, CaptionRecord]  # captioner -> its record
Scorer = Callable[[Video, Captions], list[float]]


@dataclass(frozen=True, kw_only=True)
class SelectRecord(Record):
    """The selected caption, and what the others said, where several captioners wrote one."""

    caption: str | None = field(default=None, metadata=ALWAYS)
    by: str | None = None
    backend: str | None = None
    model: str | None = None
    revision: str | None = None
    prompt: str | None = None
    frames: Sequence[str] | None = None  # names of files
    author: str | None = None  # who wrote it, where a person did
    made: str | None = None  # when, then
    agreement: float | None = None  # mean ROUGE-L of each caption with the others
    captions: dict[str, Facts | None] | None = None  # captioner -> what it said, with its score


class SelectStep(Step[Select, SelectRecord]):
    """One caption of each video, in `caption.json`."""

    VERSION = 2
    SETTINGS = Select
    RECORD = SelectRecord

    def settings(self, config: Config) -> Select:
        """Return the settings, every captioner among them unless some are named."""
        chosen = config.select.captioners or config.caption.names
        return config.select.model_copy(update={"captioners": chosen})

    def wanted(self, settings: Select) -> Wanted:
        """Ask for a device where CLIP runs."""
        return settings.device if settings.by == "score" else "cpu"

    def identity(self, settings: Select, cache: Path) -> str | None:
        """Return what the name of the CLIP checkpoint stands for, where it is used."""
        if settings.by != "score":
            return None
        models.check(settings.model_name, ("clip",), "select.model_name")
        return models.identity(settings.model_name, cache, settings.revision)

    def packages(self, settings: Select) -> tuple[str, Sequence[str]]:
        """Name what CLIP runs with, where it is used."""
        if settings.by != "score":
            return super().packages(settings)
        return "select.by: score", ("torch", "transformers")

    def checkpoints(self, settings: Select) -> Iterator[Checkpoint]:
        """Yield the CLIP checkpoint, where it is used."""
        if settings.by == "score":
            yield at_hub("select.model_name", settings.model_name, settings.revision)

    def reads(self, settings: Select) -> tuple[str, ...]:
        """Name the captioners among whose captions one is selected."""
        return tuple(f"caption/{name}" for name in settings.captioners)

    def skips(self, upstream: Sequence[Record], video: Video) -> str | None:
        """Skip a video only if no captioner said anything; the first one's reason stands."""
        return None if any(record.ok for record in upstream) else upstream[0].reason

    def path(self, layout: Layout, video: Video) -> Path:
        """Name the record after what it holds."""
        return layout.record(video, "caption")

    def produce(
        self, videos: list[Video], context: Context[Select]
    ) -> Iterator[tuple[Video, SelectRecord]]:
        """Select a caption of each video."""
        yield from (_by_hand(video, context) for video in videos if video.correction)
        videos = [video for video in videos if not video.correction]
        settings = context.settings
        if settings.by != "score" or not videos:
            scorer = SCORERS.get(settings.by, _first)
            yield from (_select(video, context, scorer) for video in videos)
            return
        from spark_trainer.metrics.text import ClipScore

        environment.quiet_libraries()
        what = f"select, {len(videos)} videos"
        with device("select", settings.device, settings.gpu_fraction, context.gpus, what) as place:
            network = ClipScore(settings.model_name, settings.revision, place, context.workers)

            def fit(video: Video, captions: Captions) -> list[float]:
                folder = frames.folder(context.layout, video)
                return [
                    network([folder / name for name in record.frames or ()], record.caption or "")
                    for record in captions.values()
                ]

            yield from (_select(video, context, fit) for video in videos)

    def manifest_fields(self, video: Video, record: SelectRecord) -> Facts:
        """Return the caption, what made it, and what the other captioners said."""
        return {
            "caption": record.caption,
            "captioner": record.backend,
            "captioner_model": record.model,
            "captioner_revision": record.revision,
            "caption_prompt": record.prompt,
            "no_caption": record.reason,
            "captions": record.captions,
            "agreement": record.agreement,
        }


STEP = SelectStep


def _by_hand(video: Video, context: Context[Select]) -> tuple[Video, SelectRecord]:
    """Take what a person wrote, whatever the captioners said."""
    try:
        correction = corrected.of(context.layout, video)
    except (MachineError, OSError) as error:
        return video, SelectRecord.failed(told(error))
    assert correction is not None
    assert correction.caption is not None
    said = correction.caption
    records = _captions(video, context)
    every = {name: _kept(one) if one.ok else None for name, one in records.items()}
    record = SelectRecord(
        caption=said.text,
        by=HAND,
        backend=HAND,
        author=said.author,
        made=said.time,
        captions=every if len(every) > 1 else None,
    )
    return video, record


def _captions(video: Video, context: Context[Select]) -> Captions:
    """Read what each captioner said, or why it said nothing."""
    return {
        name: CaptionRecord.read(context.layout.record(video, f"caption/{name}"))
        for name in context.settings.captioners
    }


def _select(video: Video, context: Context[Select], scorer: Scorer) -> tuple[Video, SelectRecord]:
    """Take the caption that scores best, the first of equals."""
    settings, records = context.settings, _captions(video, context)
    captions = {name: record for name, record in records.items() if record.ok}
    try:
        scored = scorer(video, captions)
    except Exception as error:
        return video, _unscored(video, error)
    best = max(range(len(scored)), key=scored.__getitem__)
    name, chosen = list(captions.items())[best]
    record = SelectRecord(backend=name, by=settings.by, frames=chosen.frames, **_kept(chosen))
    if len(records) == 1:
        return video, record
    from spark_trainer.metrics import text as scores

    said = scores.agreement([caption.caption or "" for caption in captions.values()])
    by_name = dict(zip(captions, scored, strict=True))
    every: dict[str, Facts | None] = {
        other: _kept(caption) | {"score": round(by_name[other], 4)} if other in by_name else None
        for other, caption in records.items()
    }
    return video, replace(record, agreement=round(sum(said) / len(said), 4), captions=every)


def _kept(record: CaptionRecord) -> Facts:
    """Return what the manifest tells of every captioner."""
    return {key: getattr(record, key) for key in KEPT}


def _unscored(video: Video, error: Exception) -> SelectRecord:
    """Return the record of a video whose captions can't be compared."""
    if of_machine(error):
        return SelectRecord.failed(str(error))
    if isinstance(error, Unusable):
        return SelectRecord(status=Status.NONE, reason=str(error), unread=True)
    log.logger.error("select %s", video.hash[:12], exc_info=error)
    return SelectRecord.nothing(unexpected(error))


def _first(video: Video, captions: Captions) -> list[float]:
    return [-float(place) for place in range(len(captions))]


def _longest(video: Video, captions: Captions) -> list[float]:
    return [float(len((record.caption or "").split())) for record in captions.values()]


def _agreement(video: Video, captions: Captions) -> list[float]:
    from spark_trainer.metrics import text as scores

    return scores.agreement([record.caption or "" for record in captions.values()])


SCORERS = {"first": _first, "longest": _longest, "agreement": _agreement}
