"""One loaded transcriber, and the records of what it hears."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from spark_trainer import transcribers
from spark_trainer.config import ConfigError, Transcript
from spark_trainer.config.labels import GIVEN
from spark_trainer.data.jsonl import Broken
from spark_trainer.data.labels.gathering import Label
from spark_trainer.data.layout import Video
from spark_trainer.errors import MachineError, of_machine, unexpected
from spark_trainer.media.source import Unreadable
from spark_trainer.steps.audio import AudioRecord
from spark_trainer.steps.base import Context
from spark_trainer.steps.device import device
from spark_trainer.steps.record import ALWAYS, NESTED, Facts, Record, Status
from spark_trainer.system import environment, log
from spark_trainer.transcribers import SAMPLE_RATE, Heard, Sound, filters, sidecar


@dataclass(frozen=True, kw_only=True)
class TranscriptRecord(Record):
    """The text, its segments with times in seconds, and what made it; other tracks' beside them."""

    text: str = field(default="", metadata=ALWAYS)
    segments: Sequence[Facts] = field(default=(), metadata=ALWAYS)
    language: str | None = None
    language_probability: float | None = None
    dropped: dict[str, int] | None = None  # reason -> segments that were not believed
    track: int | None = None  # of another track
    track_language: str | None = None
    tracks: "tuple[TranscriptRecord, ...] | None" = field(default=None, metadata=NESTED)
    backend: str | None = None
    model: str | None = None
    revision: str | None = None
    decoding: Facts | None = None
    packages: Facts | None = None
    device: str | None = None
    seconds: float | None = None
    made: str | None = None


@dataclass(frozen=True)
class Track:
    """One WAV file of a video; without a number it is the chosen track, `audio.wav`."""

    video: Video
    wav: Path
    audio: AudioRecord
    number: int | None = None


class Model(contextlib.ExitStack):
    """The transcriber, loaded when the first sound needs it, and where its texts come from.

    The GPU that it runs on, if any, is leased until the end of the context.
    """

    def __init__(self, context: Context[Transcript]) -> None:
        super().__init__()
        self._context = context
        self._provenance: Facts = {}
        self._works = False

    @cached_property
    def loaded(self) -> transcribers.Transcriber:
        """Loaded once for all videos."""
        settings = self._context.settings
        share, granted = settings.gpu_fraction, self._context.gpus
        leased = device("transcript", settings.device, share, granted, "transcript")
        place = self.enter_context(leased)
        return transcribers.load(settings, place, self._context.workers)

    def transcribe(
        self, batch: list[tuple[Track, Sound]]
    ) -> Iterator[tuple[Track, TranscriptRecord]]:
        """Transcribe sounds together; one that the model fails on costs no other."""
        self._provenance = self._provenance or self._describe()
        began = time.perf_counter()
        try:
            heard = self.loaded.transcribe([sound for _, sound in batch])
        except (ConfigError, MachineError):
            raise
        except Exception as error:
            if of_machine(error):
                raise
            yield from self._alone(batch, error)
            return
        self._works = True
        windows = sum(sound.windows for _, sound in batch)
        share = (time.perf_counter() - began) / windows
        settings = self._context.settings
        for (track, sound), said in zip(batch, heard, strict=True):
            yield (
                track,
                replace(
                    _record(said, sound, settings),
                    seconds=round(share * sound.windows, 3),
                    made=datetime.now(UTC).isoformat(timespec="seconds"),
                    **self._provenance,
                ),
            )

    def _alone(
        self, batch: list[tuple[Track, Sound]], error: Exception
    ) -> Iterator[tuple[Track, TranscriptRecord]]:
        """Transcribe a failed batch one by one, so that only the sound at fault has no text."""
        if len(batch) > 1:
            for one in batch:
                yield from self.transcribe([one])
            return
        self._check()
        ((track, _),) = batch
        yield track, unheard(track, error)

    def _check(self) -> None:
        """See that the model still works, on a second of a tone, before a sound is blamed.

        Raises:
            ConfigError: nothing was ever transcribed with these settings.
            MachineError: the device worked before.
        """
        import numpy as np

        tone = np.sin(np.arange(SAMPLE_RATE) / 6).astype(np.float32) / 2
        try:
            self.loaded.transcribe([Sound(tone, ((0.0, 1.0),))])
        except (ConfigError, MachineError):
            raise
        except Exception as error:
            log.logger.error("transcript: where it stopped", exc_info=error)
            what = f"not even a tone can be transcribed: {unexpected(error)}"
            if self._works or of_machine(error):
                raise MachineError(f"transcript: {what}") from error
            raise ConfigError(f"transcript.whisper_model: {what}") from error

    def _describe(self) -> Facts:
        """Describe what a text was made with; only the settings and the revision decide it."""
        settings = self._context.settings
        known = transcribers.identity(settings, self._context.layout.model_digests)
        digest = known if known != settings.whisper_model else None
        decoding = settings.results()
        for key in ("enabled", "backend", "whisper_model"):
            del decoding[key]
        return {
            "backend": settings.model_backend,
            "model": settings.whisper_model,
            "revision": digest or self.loaded.revision,
            "decoding": decoding,
            "packages": environment.versions(transcribers.PACKAGES[settings.model_backend]),
            "device": self.loaded.device,
        }


def as_given(label: Label) -> TranscriptRecord:
    """Return the record of what the user's files say is said, or that they can't be read."""
    try:
        cues = sidecar.cues(label.content, label.place)
    except Broken as error:
        reason = str(error).partition("\n")[0]
        log.logger.warning("transcript: %s", reason)
        return TranscriptRecord(status=Status.NONE, reason=reason)
    timed = [
        {"text": cue.text} | _times(cue.start, cue.end)
        for cue in cues
        if cue.start is not None and cue.end is not None
    ]
    return TranscriptRecord(
        text=" ".join(cue.text for cue in cues),
        segments=timed,
        language=cues[0].language,
        backend=GIVEN,
    )


def unheard(track: Track, error: Exception) -> TranscriptRecord:
    """Return the record of a sound that can't be transcribed."""
    if of_machine(error):
        return TranscriptRecord.failed(str(error))
    if isinstance(error, Unreadable):
        log.logger.warning("transcript %s: %s", track.video.hash[:12], error)
        return TranscriptRecord(status=Status.NONE, reason=str(error), unread=True)
    log.logger.error("transcript %s", track.video.hash[:12], exc_info=error)
    return TranscriptRecord.nothing(unexpected(error))


def _record(heard: Heard, sound: Sound, settings: Transcript) -> TranscriptRecord:
    """Return the record of what was heard, without what made it."""
    kept, dropped = filters.keep(heard.segments, sound.duration, settings)
    if not kept:
        counts = ", ".join(f"{why} {count}" for why, count in sorted(dropped.items()))
        record = TranscriptRecord.nothing(f"all dropped: {counts}" if counts else "no text")
        return replace(record, dropped=dropped or None)
    segments: list[Facts] = []
    for segment in kept:
        facts: Facts = {"text": segment.text} | _times(segment.start, segment.end)
        if settings.word_timestamps:
            facts["words"] = [
                {"text": word.text} | _times(word.start, word.end) for word in segment.words
            ]
        segments.append(facts)
    sure = heard.probability
    return TranscriptRecord(
        text=" ".join(segment.text for segment in kept),
        segments=segments,
        language=heard.language,
        language_probability=None if sure is None else round(sure, 3),
        dropped=dropped or None,
    )


def _times(start: float, end: float) -> Facts:
    return {"start": round(start, 3), "end": round(end, 3)}
