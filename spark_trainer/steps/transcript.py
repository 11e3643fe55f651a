"""The speech of a video as text with times; nothing where nobody speaks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from spark_trainer import transcribers
from spark_trainer.config import Transcript
from spark_trainer.data.labels import kept
from spark_trainer.data.layout import Video
from spark_trainer.steps import audio
from spark_trainer.steps.audio import AudioRecord
from spark_trainer.steps.base import Checkpoint, Context, Step
from spark_trainer.steps.device import Wanted
from spark_trainer.steps.record import Facts, Record
from spark_trainer.steps.transcribing import Model, Track, TranscriptRecord, as_given, unheard
from spark_trainer.transcribers import Sound, listening, sidecar, weights

LABELS = "transcripts"
MAX_LISTENERS = 2  # threads that read and look for voices while the model works


class TranscriptStep(Step[Transcript, TranscriptRecord]):
    """A text, and nothing but the record."""

    VERSION = 2
    SETTINGS = Transcript
    RECORD = TranscriptRecord

    def wanted(self, settings: Transcript) -> Wanted:
        """Ask for what is configured, where a model hears."""
        return settings.device if settings.model_backend else "cpu"

    def identity(self, settings: Transcript, cache: Path) -> str | None:
        """Identify the weights, by content where they are local."""
        return transcribers.identity(settings, cache) if settings.model_backend else None

    def packages(self, settings: Transcript) -> tuple[str, Sequence[str]]:
        """Name the backend's."""
        backend = settings.model_backend
        key = f"transcript.backend: {backend}"
        return key, transcribers.PACKAGES[backend] if backend else ()

    def checkpoints(self, settings: Transcript) -> Iterator[Checkpoint]:
        """Yield Whisper's weights."""
        if settings.model_backend:
            unavailable = partial(weights.unavailable, settings)
            yield Checkpoint(weights.KEY, settings.whisper_model, unavailable)

    def skips(self, upstream: Sequence[Record], video: Video) -> str | None:
        """Skip a video without a track; one of which only other tracks can be used is due.

        So is one whose transcript is given.
        """
        (heard,) = upstream
        others = isinstance(heard, AudioRecord) and heard.others
        return None if others or video.labels else super().skips(upstream, video)

    def produce(
        self, videos: list[Video], context: Context[Transcript]
    ) -> Iterator[tuple[Video, TranscriptRecord]]:
        """Transcribe with one loaded model, while other videos are read and searched for voices."""
        tracks = {video.hash: _tracks(video, context) for video in videos}
        waiting = {name: _Waiting(len(found)) for name, found in tracks.items()}
        every = (track for found in tracks.values() for track in found)
        for track, record in _transcribed(every, context):
            state = waiting[track.video.hash]
            state.records[track.number] = record
            state.missing -= 1
            if not state.missing:
                joined = _joined(tracks[track.video.hash], waiting.pop(track.video.hash))
                yield track.video, joined

    def manifest_fields(self, video: Video, record: TranscriptRecord) -> Facts:
        """Return the text, what made it, and the other tracks' texts."""
        return {
            "transcript": record.text,
            "language": record.language,
            "segments": record.segments,
            "no_transcript": record.reason,
            "transcriber": record.backend,
            "transcriber_model": record.model,
            "transcriber_revision": record.revision,
            "transcripts": [one.to_json() for one in record.tracks] if record.tracks else None,
        }


STEP = TranscriptStep


@dataclass
class _Waiting:
    """Records of a video's tracks as they come in; `missing` counts those still to come."""

    missing: int
    records: dict[int | None, TranscriptRecord] = field(default_factory=dict)


def _tracks(video: Video, context: Context[Transcript]) -> list[Track]:
    layout = context.layout
    chosen = AudioRecord.read(layout.record(video, "audio"))
    return [Track(video, audio.wav(layout, video), chosen)] + [
        Track(video, audio.track(layout, video, other.track), other, other.track)
        for other in chosen.others or ()
    ]


def _joined(tracks: list[Track], state: _Waiting) -> TranscriptRecord:
    """Return the record of a video: the chosen track's, with the other tracks' beside it."""
    others = tuple(
        replace(
            state.records[track.number],
            track=track.number,
            track_language=track.audio.track_language,
        )
        for track in tracks
        if track.number is not None
    )
    record = replace(
        state.records[None],
        unread=any(one.unread for one in state.records.values()),
        tracks=others or None,
    )
    failed = next((other for other in others if not other.settled), None)
    return replace(record, status=failed.status, reason=failed.reason) if failed else record


def _transcribed(
    tracks: Iterator[Track], context: Context[Transcript]
) -> Iterator[tuple[Track, TranscriptRecord]]:
    """Yield each track with its record, silent ones at once, others in batches."""
    settings = context.settings
    batch: list[tuple[Track, Sound]] = []

    def listen(track: Track) -> Sound | TranscriptRecord | str | Exception:
        if track.number is None and (said := kept.find(context.layout, track.video, LABELS)):
            return as_given(said)
        if not settings.model_backend:
            return sidecar.NONE
        if why := _silent(track.audio, settings):
            return why
        try:
            return listening.listen(track.wav, settings.vad)
        except Exception as error:
            return error

    def seconds(track: Track) -> float:
        return track.audio.duration or 0.0

    listeners = min(MAX_LISTENERS, context.workers)
    with Model(context) as model:
        for track, sound in listening.ahead(listen, tracks, seconds, listeners):
            if isinstance(sound, Exception):
                yield track, unheard(track, sound)
            elif isinstance(sound, TranscriptRecord):
                yield track, sound
            elif isinstance(sound, str):
                yield track, TranscriptRecord.nothing(sound)
            elif sound.speech == ():
                yield track, TranscriptRecord.nothing("no voice")
            else:
                batch.append((track, sound))
                if sum(sound.windows for _, sound in batch) >= model.loaded.batch_size:
                    yield from model.transcribe(batch)
                    batch = []
        if batch:
            yield from model.transcribe(batch)


def _silent(record: AudioRecord, settings: Transcript) -> str | None:
    """Tell why there is nothing to listen to, if so."""
    if not record.ok:
        return record.reason
    quiet = record.peak_db is None or record.peak_db < settings.silence_db
    return "silence" if quiet else None
