"""The speech of a video as text with times; nothing where nobody speaks."""

from collections.abc import Iterator
from pathlib import Path

from spark_trainer import transcribers
from spark_trainer.config import Transcript
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import Layout, Video
from spark_trainer.steps import Context, Facts
from spark_trainer.steps.device import Wanted

VERSION = 1
UPSTREAM = ("audio",)
SETTINGS = Transcript


def wanted(settings: Transcript) -> Wanted:
    """As configured."""
    return settings.device


def identity(settings: Transcript, cache: Path) -> str:
    """The weights, by content where they are local."""
    return transcribers.identity(settings, cache)


def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
    """The record itself is the result."""
    return []


def produce(videos: list[Video], context: Context) -> Iterator[tuple[Video, Facts]]:
    """Transcribe the videos one after the other with one loaded model."""
    transcriber: transcribers.Transcriber | None = None
    settings: Transcript = context.settings
    for video in videos:
        audio = read_json(context.layout.record(video, "audio"))
        if why := _silent(audio, settings):
            yield video, {"status": "none", "why": why, "text": "", "segments": []}
            continue
        if transcriber is None:
            transcriber = transcribers.load(settings, context.workers)
        wav = context.layout.audio(video)
        speech = transcribers.speech(wav) if settings.vad else None
        if speech == []:
            yield video, {"status": "none", "why": "no voice", "text": "", "segments": []}
            continue
        language, segments = transcriber.transcribe(wav, speech)
        kept = [s for s in segments if transcribers.trustworthy(s, settings)]
        text = " ".join(segment.text for segment in kept)
        facts: Facts = {
            "status": "ok" if text else "none",
            "text": text,
            "language": language,
            "segments": [
                {"start": round(s.start, 3), "end": round(s.end, 3), "text": s.text} for s in kept
            ],
        }
        yield video, facts if text else facts | {"why": "no text that can be trusted"}


def _silent(audio: Facts, settings: Transcript) -> str | None:
    """Why there is nothing to listen to, if so."""
    if audio["status"] != "ok":
        return str(audio.get("why") or audio["reason"])
    peak = audio["peak_db"]
    return "silence" if peak is None or peak < settings.silence_db else None
