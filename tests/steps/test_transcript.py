"""Transcripts of whole videos: the words, and why there are none."""

import shutil
from collections.abc import Callable
from pathlib import Path

import jiwer
import pytest
from whisper.normalizers import EnglishTextNormalizer

READING = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in "
    "his power to do for them"
)
BACKENDS = ["faster-whisper", "openai-whisper"]
Build = Callable[..., "Built"]  # noqa: F821  # tests/steps/conftest.py


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, object]:
    """The offline model on the CPU through the backend that the test names."""
    return {"backend": request.param, "whisper_model": "offline-tiny.en", "device": "cpu"}


@pytest.mark.parametrize("settings", BACKENDS, indirect=True)
def test_speech_is_transcribed_and_nothing_else(
    settings: dict[str, object], build: Build, videos: Path, clips: Path
) -> None:
    for clip in ("globe-reading", "title", "cup", "bunny", "broken"):
        shutil.copy(clips / f"{clip}.mp4", videos)
    built = build("audio", "transcript", transcript=settings)
    record = built.record("globe-reading.mp4", "transcript")
    normal = EnglishTextNormalizer()
    assert jiwer.wer(normal(READING), normal(record["text"])) <= 0.1
    assert record["language"] == "en"
    assert record["text"] == " ".join(segment["text"] for segment in record["segments"])
    assert all(0 <= s["start"] < s["end"] <= 7.2 for s in record["segments"])
    expected = {
        "title.mp4": "silence",
        "cup.mp4": "no voice",
        "bunny.mp4": "no audio stream",
        "broken.mp4": built.record("broken.mp4", "audio")["reason"],
    }
    for name, why in expected.items():
        nothing = built.record(name, "transcript")
        assert (nothing["status"], nothing["why"]) == ("none", why)
        assert (nothing["text"], nothing["segments"]) == ("", [])


@pytest.mark.parametrize("settings", BACKENDS, indirect=True)
def test_nothing_is_invented_without_the_voice_detector(
    settings: dict[str, object], build: Build, videos: Path, clips: Path
) -> None:
    for clip in ("title", "cup"):
        shutil.copy(clips / f"{clip}.mp4", videos)
    filters = settings | {"vad": False, "silence_db": -200.0}
    built = build("audio", "transcript", transcript=filters)
    cup = built.record("cup.mp4", "transcript")
    assert (cup["status"], cup["why"], cup["text"]) == ("none", "no text that can be trusted", "")
    assert built.record("title.mp4", "transcript")["why"] == "silence"


@pytest.mark.parametrize("settings", BACKENDS[:1], indirect=True)
def test_times_are_those_of_the_video(
    settings: dict[str, object], build: Build, encode: Callable[..., Path]
) -> None:
    late = ("-itsoffset", "3", "-i", "globe-reading.mp4", "-map", "0:v", "-map", "1:a")
    encode("late.mp4", "-i", "globe-reading.mp4", *late, "-c", "copy")
    built = build("audio", "transcript", transcript=settings)
    segments = built.record("late.mp4", "transcript")["segments"]
    assert segments[0]["start"] == pytest.approx(3, abs=0.5)
    assert 9 < segments[-1]["end"] < 10.7
