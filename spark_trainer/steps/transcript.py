"""The speech of a video as text with times; nothing where nobody speaks."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from spark_trainer import environment, log, transcribers
from spark_trainer.config import ConfigError, Transcript
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import Layout, Video
from spark_trainer.errors import MachineError, of_machine, unexpected
from spark_trainer.media.source import Unreadable
from spark_trainer.steps import Context, Facts
from spark_trainer.steps.device import Wanted, device
from spark_trainer.transcribers import SAMPLE_RATE, Heard, Sound, filters, listening

VERSION = 2
UPSTREAM = ("audio",)
SETTINGS = Transcript

MAX_LISTENERS = 2  # threads that read and look for voices while the model works


def wanted(settings: Transcript) -> Wanted:
    """As configured."""
    return settings.device


def identity(settings: Transcript, cache: Path) -> str:
    """The weights, by content where they are local."""
    return transcribers.identity(settings, cache)


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """The record itself is the result."""
    return []


@dataclass(frozen=True)
class Track:
    """One WAV file of a video; without a number it is the chosen track, `audio.wav`."""

    video: Video
    wav: Path
    audio: Facts
    number: int | None = None


@dataclass
class Waiting:
    """Facts of a video's tracks as they come in; `missing` are those still to come."""

    missing: int
    facts: dict[int | None, Facts] = field(default_factory=dict)


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Transcribe videos with one loaded model, while others are read and searched for voices."""
    tracks = {video.hash: _tracks(video, context) for video in videos}
    waiting = {name: Waiting(len(found)) for name, found in tracks.items()}
    every = (track for found in tracks.values() for track in found)
    for track, facts in _transcribed(every, context):
        state = waiting[track.video.hash]
        state.facts[track.number] = facts
        state.missing -= 1
        if not state.missing:
            yield track.video, _joined(tracks[track.video.hash], waiting.pop(track.video.hash))


def _tracks(video: Video, context: Context) -> list[Track]:
    audio = read_json(context.layout.record(video, "audio"))
    others = audio.get("others", ())
    return [Track(video, context.layout.audio(video), audio)] + [
        Track(video, context.layout.track(video, other["track"]), other, other["track"])
        for other in others
    ]


def _joined(tracks: list[Track], state: Waiting) -> Facts:
    """The record of a video: the chosen track's facts, and the other tracks' beside them."""
    unread = [facts.pop("unread", False) for facts in state.facts.values()]
    facts = state.facts[None] | {"unread": any(unread)}
    others = [
        {"track": track.number, "track_language": track.audio.get("track_language")}
        | state.facts[track.number]
        for track in tracks
        if track.number is not None
    ]
    if failed := [other for other in others if other["status"] == "failed"]:
        facts = facts | {key: failed[0][key] for key in ("status", "reason")}
    return facts | ({"tracks": others} if others else {})


def _transcribed(tracks: Iterator[Track], context: Context) -> Iterator[tuple[Track, Facts]]:
    """Each track with its facts, silent ones at once, others in batches."""
    settings: Transcript = context.settings
    batch: list[tuple[Track, Sound]] = []

    def listen(track: Track) -> Sound | str | Exception:
        if why := _silent(track.audio, settings):
            return why
        try:
            return listening.listen(track.wav, settings.vad)
        except Exception as error:
            return error

    def seconds(track: Track) -> float:
        return float(track.audio.get("duration", 0.0))

    listeners = min(MAX_LISTENERS, context.workers)
    with _Model(context) as model:
        for track, sound in listening.ahead(listen, tracks, seconds, listeners):
            if isinstance(sound, Exception):
                yield track, _unheard(track, sound)
            elif isinstance(sound, str):
                yield track, nothing(sound)
            elif sound.speech == ():
                yield track, nothing("no voice")
            else:
                batch.append((track, sound))
                if sum(sound.windows for _, sound in batch) >= model.loaded.batch_size:
                    yield from model.transcribe(batch)
                    batch = []
        if batch:
            yield from model.transcribe(batch)


class _Model(contextlib.ExitStack):
    """The transcriber, loaded when the first sound needs it, and where its texts come from.

    The GPU that it runs on, if any, is leased until the end of the context.
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._provenance: Facts = {}
        self._works = False

    @cached_property
    def loaded(self) -> transcribers.Transcriber:
        """Loaded once for all videos."""
        settings: Transcript = self._context.settings
        share, granted = settings.gpu_fraction, self._context.gpus
        leased = device("transcript", settings.device, share, granted, "transcript")
        place = self.enter_context(leased)
        return transcribers.load(settings, place, self._context.workers)

    def transcribe(self, batch: list[tuple[Track, Sound]]) -> Iterator[tuple[Track, Facts]]:
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
        settings: Transcript = self._context.settings
        for (track, sound), said in zip(batch, heard, strict=True):
            made = datetime.now(UTC).isoformat(timespec="seconds")
            taken = {"seconds": round(share * sound.windows, 3), "made": made}
            yield track, _facts(said, sound, settings) | self._provenance | taken

    def _alone(
        self, batch: list[tuple[Track, Sound]], error: Exception
    ) -> Iterator[tuple[Track, Facts]]:
        """The sounds of a batch that failed, one by one, so that only the guilty has no text."""
        if len(batch) > 1:
            for one in batch:
                yield from self.transcribe([one])
            return
        self._check()
        ((track, _),) = batch
        yield track, _unheard(track, error)

    def _check(self) -> None:
        """A sound is only blamed where the model still hears another: a second of a tone.

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
        """What a text was made with; only the settings and the revision decide it."""
        settings: Transcript = self._context.settings
        known = transcribers.identity(settings, self._context.layout.model_digests)
        digest = known if known != settings.whisper_model else None
        decoding = settings.results()
        for key in ("enabled", "backend", "whisper_model"):
            del decoding[key]
        return {
            "backend": settings.backend,
            "model": settings.whisper_model,
            "revision": digest or self.loaded.revision,
            "decoding": decoding,
            "packages": environment.versions(transcribers.PACKAGES[settings.backend]),
            "device": self.loaded.device,
        }


def _unheard(track: Track, error: Exception) -> Facts:
    """The record of a sound that can't be transcribed."""
    if of_machine(error):
        return nothing(str(error)) | {"status": "failed", "reason": str(error)}
    if isinstance(error, Unreadable):
        log.logger.warning("transcript %s: %s", track.video.hash[:12], error)
        return nothing(str(error)) | {"unread": True}
    log.logger.error("transcript %s", track.video.hash[:12], exc_info=error)
    return nothing(unexpected(error))


def _facts(heard: Heard, sound: Sound, settings: Transcript) -> Facts:
    kept, dropped = filters.keep(heard.segments, sound.duration, settings)
    counted = {"dropped": dropped} if dropped else {}
    if not kept:
        counts = ", ".join(f"{why} {count}" for why, count in sorted(dropped.items()))
        return nothing(f"all dropped: {counts}" if counts else "no text") | counted
    segments: list[Facts] = []
    for segment in kept:
        facts: Facts = {"text": segment.text} | _times(segment.start, segment.end)
        if settings.word_timestamps:
            facts["words"] = [
                {"text": word.text} | _times(word.start, word.end) for word in segment.words
            ]
        segments.append(facts)
    language: Facts = {"language": heard.language}
    if heard.probability is not None:
        language["language_probability"] = round(heard.probability, 3)
    text = " ".join(segment.text for segment in kept)
    return {"status": "ok", "text": text, "segments": segments} | language | counted


def nothing(why: str) -> Facts:
    """An empty transcript and its reason."""
    return {"status": "none", "why": why, "text": "", "segments": []}


def _times(start: float, end: float) -> Facts:
    return {"start": round(start, 3), "end": round(end, 3)}


def _silent(audio: Facts, settings: Transcript) -> str | None:
    """Why there is nothing to listen to, if so."""
    if audio["status"] != "ok":
        return str(audio.get("why") or audio["reason"])
    peak = audio["peak_db"]
    return "silence" if peak is None or peak < settings.silence_db else None
