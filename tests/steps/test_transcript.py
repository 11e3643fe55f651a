"""Transcripts of whole videos: the words, where they come from, and why there are none."""

import json
import shutil
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import jiwer
import numpy as np
import pytest
from whisper.normalizers import EnglishTextNormalizer

from spark_trainer import config, transcribers
from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.steps import audio, load, manifest
from spark_trainer.steps.base import Context
from spark_trainer.steps.transcript import TranscriptRecord
from spark_trainer.system import environment
from spark_trainer.transcribers import Heard, Segment, Sound

READING = (
    "and mister john dashwood had then leisure to consider how much there might be prudently in "
    "his power to do for them"
)
ASSETS = Path(__file__).parents[1] / "assets"
BACKENDS = ["faster-whisper", "openai-whisper"]
Build = Callable[..., "Built"]  # noqa: F821  # tests/steps/conftest.py
Encode = Callable[..., Path]


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, object]:
    """The offline model on the CPU through the backend that the test names."""
    backend = getattr(request, "param", BACKENDS[0])
    return {
        "backend": backend,
        "whisper_model": "offline-tiny.en",
        "device": "cpu",
        "beam_size": 1,
    }


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
        assert "model" not in nothing  # it was not asked


def test_what_filters_drop_is_counted_and_named(
    settings: dict[str, object], build: Build, videos: Path, clips: Path, encode: Encode
) -> None:
    for clip in ("title", "cup"):
        shutil.copy(clips / f"{clip}.mp4", videos)
    music = ("-i", str(ASSETS / "bunny-music.flac"))
    encode("music.mp4", "-i", "bunny.mp4", *music, "-map", "0:v", "-map", "1:a", "-c:v", "copy")
    built = build("audio", "transcript", transcript=settings | {"vad": False, "silence_db": -200.0})
    for name in ("cup.mp4", "music.mp4"):
        record = built.record(name, "transcript")
        assert (record["status"], record["text"]) == ("none", "")
        counts = ", ".join(f"{why} {count}" for why, count in sorted(record["dropped"].items()))
        assert record["why"] == f"all dropped: {counts}"
    assert built.record("title.mp4", "transcript")["why"] == "silence"


def test_where_a_text_comes_from(
    settings: dict[str, object], build: Build, videos: Path, clips: Path
) -> None:
    shutil.copy(clips / "globe-reading.mp4", videos)
    settings = settings | {"word_timestamps": True}
    built = build("audio", "transcript", transcript=settings)
    record = built.record("globe-reading.mp4", "transcript")
    expected = config.Transcript(**settings)
    assert record["backend"] == "faster-whisper"
    assert record["model"] == "offline-tiny.en"
    assert record["revision"] == transcribers.weights.OFFLINE["offline-tiny.en"][2]
    assert record["decoding"]["beam_size"] == 1
    assert not {"device", "batch_size", "enabled"} & set(record["decoding"])
    assert record["packages"] == environment.versions(transcribers.PACKAGES[expected.backend])
    assert record["device"] == "cpu"
    assert record["seconds"] > 0
    assert record["made"].endswith("+00:00")
    words = [word for segment in record["segments"] for word in segment["words"]]
    assert " ".join(word["text"] for word in words) == record["text"]
    video = built.video("globe-reading.mp4")
    part = built.index.layout.root / "part.jsonl"
    manifest.part(built.index.layout, Shard("", (video,)), ("audio", "transcript"), "f", part)
    text = part.read_text()
    assert '"transcriber_model":"offline-tiny.en"' in text
    assert not [word for word in ("made", "packages", "seconds", "device") if f'"{word}"' in text]


def test_times_are_those_of_the_video(
    settings: dict[str, object], build: Build, encode: Encode
) -> None:
    late = ("-itsoffset", "3", "-i", "globe-reading.mp4", "-map", "0:v", "-map", "1:a")
    encode("late.mp4", "-i", "globe-reading.mp4", *late, "-c", "copy")
    built = build("audio", "transcript", transcript=settings)
    segments = built.record("late.mp4", "transcript")["segments"]
    assert segments[0]["start"] == pytest.approx(3, abs=0.5)
    assert 9 < segments[-1]["end"] < 10.7


def test_every_track_has_its_text(
    settings: dict[str, object], build: Build, encode: Encode
) -> None:
    """The chosen track in German by its label, silence and another reading beside it."""
    inputs = ("-i", "globe-reading.mp4", "-i", str(ASSETS / "librivox-0890.wav"))
    silence = ("-f", "lavfi", "-t", "2", "-i", "anullsrc=r=16000:cl=mono")
    maps = ("-map", "0:v", "-map", "2:a", "-map", "1:a", "-map", "0:a", "-c:v", "copy")
    names = ("-metadata:s:a:0", "language=fre", "-metadata:s:a:1", "language=eng")
    names += ("-metadata:s:a:2", "language=ger", "-c:a", "flac")
    encode("tracks.mkv", *inputs, *silence, *maps, *names)
    tracks = {"track": "ger", "other_tracks": True}
    built = build("audio", "transcript", audio=tracks, transcript=settings)
    record = built.record("tracks.mkv", "transcript")
    assert "Dashwood" in record["text"]
    silent, other = record["tracks"]
    assert (silent["track"], silent["track_language"], silent["why"]) == (0, "fre", "silence")
    assert (other["track"], other["track_language"]) == (1, "eng")
    assert "selfish" in other["text"]
    video, layout = built.video("tracks.mkv"), built.index.layout
    manifest.part(layout, Shard("", (video,)), ("audio", "transcript"), "f", layout.root / "part")
    entry = json.loads((layout.root / "part").read_text().splitlines()[0])
    silent, other = entry["meta"]["transcripts"]
    assert (silent["segments"], silent["track"], silent["why"]) == ([], 0, "silence")
    assert silent.keys() == other.keys()


def test_an_unreadable_file_stops_nothing(
    settings: dict[str, object], build: Build, videos: Path, clips: Path
) -> None:
    for clip in ("globe-reading.mp4", "hello.mpeg"):
        shutil.copy(clips / clip, videos)
    built = build("audio", audio={})
    built.audio("hello.mpeg").write_bytes(b"RIFF")
    context = Context(built.index.layout, config.Transcript(**settings), workers=2)
    found = {
        video.hash: record
        for video, record in load("transcript").produce(list(built.index.videos.values()), context)
    }
    bad = found[built.video("hello.mpeg").hash]
    assert bad.status == "none"
    assert bad.reason.startswith("audio.wav can't be read: ")
    assert found[built.video("globe-reading.mp4").hash].status == "ok"


class Picky:
    """Hears everything but what is loud, and nothing any more once `broken` is set."""

    device, revision, batch_size = "cpu", "r", 4

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def transcribe(self, sounds: Sequence[Sound]) -> list[Heard]:
        if self.broken or any(np.abs(sound.samples).max() > 0.9 for sound in sounds):
            raise ValueError("too loud")
        return [Heard("en", None, [Segment(0.0, 1.0, "all is well")]) for _ in sounds]


@pytest.fixture
def heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, TranscriptRecord]]:
    """Transcribe six sounds, the third too loud, with a model of the test's own."""

    def run(model: Picky) -> dict[str, TranscriptRecord]:
        monkeypatch.setattr(transcribers, "load", lambda *_: model)
        layout, videos = Layout(tmp_path), [Video(f"{n:064x}", str(n)) for n in range(6)]
        for number, video in enumerate(videos):
            samples = np.full(16000, 32000 if number == 2 else 8000, "<i2")
            layout.folder(video).mkdir()
            with wave.open(str(audio.wav(layout, video)), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes(samples.tobytes())
            facts = {"status": "ok", "peak_db": 0.0, "duration": 1.0}
            write_json(layout.record(video, "audio"), facts)
        settings = config.Transcript(whisper_model="offline-tiny.en", device="cpu", vad=False)
        found = load("transcript").produce(videos, Context(layout, settings, workers=1))
        return {video.folder: record for video, record in found}

    return run


def test_a_sound_that_the_model_fails_on_costs_no_other(
    heard: Callable[..., dict[str, TranscriptRecord]],
) -> None:
    found = heard(Picky())
    assert found.pop("2").reason == "unexpected ValueError: too loud"
    assert [record.text for record in found.values()] == ["all is well"] * 5


def test_a_model_that_hears_nothing_at_all_stops_at_once(
    heard: Callable[..., dict[str, TranscriptRecord]],
) -> None:
    with pytest.raises(config.ConfigError, match=r"whisper_model: not even a tone .* too loud"):
        heard(Picky(broken=True))
