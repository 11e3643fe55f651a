"""The sound track of a video as a WAV file on the video's own clock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from spark_trainer.config import Audio
from spark_trainer.data import sources
from spark_trainer.data.files import replacing
from spark_trainer.data.layout import Layout, Video
from spark_trainer.errors import Refused
from spark_trainer.steps.base import Context, Step
from spark_trainer.steps.parallel import each
from spark_trainer.steps.record import ALWAYS, NESTED, Facts, Record, Status
from spark_trainer.system.workers import Limits, Workers

TRACKS, WRITE = "spark_trainer.media.sound:tracks", "spark_trainer.media.sound:write_wav"


@dataclass(frozen=True, kw_only=True)
class AudioRecord(Record):
    """What the written track is, which tracks the file has, and what became of the others.

    Durations are in seconds; `peak_db` is in dBFS, None for digital silence.
    """

    tracks: Sequence[Facts] | None = None
    codec: str | None = None
    track: int | None = None
    track_language: str | None = None
    duration: float | None = None
    peak_db: float | None = field(default=None, metadata=ALWAYS)
    one_side: bool | None = None
    damaged: str | None = None
    others: "tuple[AudioRecord, ...] | None" = field(default=None, metadata=NESTED)


class AudioStep(Step[Audio, AudioRecord]):
    """WAV files: the chosen track's, and those of the others where they are kept."""

    VERSION = 3
    SETTINGS = Audio
    RECORD = AudioRecord

    def packages(self, settings: Audio) -> tuple[str, Sequence[str]]:
        """Name PyAV, which reads the videos."""
        return self.word, ("av",)

    def files(self, layout: Layout, video: Video, record: AudioRecord) -> list[Path]:
        """Name the WAV file, where there is sound, and those of the other tracks."""
        others = [track(layout, video, other.track) for other in record.others or ()]
        return ([wav(layout, video)] if record.ok else []) + others

    def produce(
        self, videos: list[Video], context: Context[Audio]
    ) -> Iterator[tuple[Video, AudioRecord]]:
        """Extract the audio of each video, one process per core."""
        settings = context.settings
        limits = Limits(settings.max_cpu_s, settings.max_memory_gb)
        with Workers(min(context.workers, len(videos)), limits, "audio") as workers:
            yield from each(self, partial(_extract, workers), videos, context)

    def manifest_fields(self, video: Video, record: AudioRecord) -> Facts:
        """Return the file and its duration, or why there is none."""
        return {
            "audio": f"{video.folder}/audio.wav" if record.ok else None,
            "audio_duration": record.duration,
            "duration": record.duration,
            "damaged": record.damaged,
            "no_audio": record.reason,
        }


STEP = AudioStep


def wav(layout: Layout, video: Video) -> Path:
    """Name the file of a video's chosen track."""
    return layout.folder(video) / "audio.wav"


def track(layout: Layout, video: Video, number: int | None) -> Path:
    """Name the file of another track."""
    return layout.folder(video) / f"audio.{number}.wav"


def tracks(layout: Layout, video: Video) -> list[Path]:
    """List the files of other tracks that are there."""
    return sorted(layout.folder(video).glob("audio.[0-9]*.wav"))


def _extract(workers: Workers, video: Video, context: Context[Audio]) -> AudioRecord:
    settings, layout = context.settings, context.layout
    source = sources.find(layout, video)
    for old in (wav(layout, video), *tracks(layout, video)):
        old.unlink(missing_ok=True)
    try:
        found: list[Facts] = workers.call(TRACKS, str(source))
    except Refused as error:
        return AudioRecord.rejected(str(error))
    if not found:
        return AudioRecord.nothing("no audio stream")
    chosen = choose(found, settings.track)
    if chosen is None:
        return replace(_absent(found, settings.track), tracks=found)
    write = partial(_write, workers, source, settings)
    record = replace(write(chosen, wav(layout, video)), tracks=found)
    rest = [other for other in found if other != chosen] if settings.other_tracks else []
    others = [write(other, track(layout, video, other["track"])) for other in rest]
    sources.find(layout, video)  # still the file that was indexed
    if settings.other_tracks:
        record = replace(record, others=tuple(other for other in others if other.ok))
    return record


def _absent(found: list[Facts], wanted: str | int) -> AudioRecord:
    """Return the record of a file that lacks the track that was asked for."""
    has: str | int = len(found)
    if isinstance(wanted, str):
        has = ", ".join(one["language"] or "a track without a language" for one in found)
    return AudioRecord(
        status=Status.NONE,
        reason=f"no audio track {wanted}",
        warning=f"audio.track is {wanted}, the file has {has}",
    )


def _write(
    workers: Workers, source: Path, settings: Audio, chosen: Facts, target: Path
) -> AudioRecord:
    """Write one track as a WAV file and say what it is."""
    asked = settings.sample_rate, settings.channels, settings.max_silence_s
    try:
        with replacing(target) as temporary:
            heard: Facts = workers.call(WRITE, str(source), chosen["track"], str(temporary), *asked)
    except Refused as error:
        return AudioRecord(status=Status.NONE, reason=str(error), warning=str(error))
    return AudioRecord(
        codec=chosen["codec"],
        track=chosen["track"],
        track_language=chosen["language"],
        warning=f"damaged: {heard['damaged']}" if "damaged" in heard else None,
        **heard,
    )


def choose(found: list[Facts], wanted: str | int) -> Facts | None:
    """Choose the track that `audio.track` asks for, if it is there.

    `default`: the one flagged so, else the first. A number: that one. A language: as `default`,
    among the tracks of that language.
    """
    if isinstance(wanted, int):
        return next((one for one in found if one["track"] == wanted), None)
    if wanted != "default":
        found = [one for one in found if one["language"] == wanted]
    return next((one for one in found if one["default"]), found[0] if found else None)
