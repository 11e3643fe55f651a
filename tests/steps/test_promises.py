"""What a step wrote and something damaged since is found where it is read, and made again."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.errors import MachineError
from spark_trainer.steps import load, promises
from spark_trainer.steps.audio import AudioRecord

Build = Callable[..., "Built"]  # noqa: F821  # tests/steps/conftest.py
TAGS = "caption/imagenet-tags"
SETTINGS: dict[str, Any] = {
    "transcript": {"whisper_model": "offline-tiny.en", "device": "cpu", "beam_size": 1},
    "caption": {"captioner_backend": "imagenet-tags"},
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture
def make(build: Build, videos: Path, clips: Path) -> Callable[..., Any]:
    """Run steps over a clip in which somebody speaks."""
    shutil.copy(clips / "globe-reading.mp4", videos)
    return lambda *names: build(*names, **SETTINGS)


@pytest.mark.parametrize("damage", [cut, empty, overwrite, Path.unlink])
@pytest.mark.parametrize(("first", "then"), [("frames", TAGS), ("audio", "transcript")])
def test_a_file_that_is_no_longer_what_was_written_is_made_again(
    first: str, then: str, damage: Callable[[Path], None], make: Callable[..., Any]
) -> None:
    """At once it is the machine's trouble, named, and nothing is held against the video."""
    built = make(first)
    broken = built.audio("globe-reading.mp4")
    if first == "frames":
        broken = built.frames("globe-reading.mp4")[3]  # of 8, the middle one: it is captioned
    before = built.record("globe-reading.mp4", first), broken.read_bytes()
    damage(broken)
    with pytest.raises(MachineError, match="the next call makes it again"):
        make(then)
    assert built.record("globe-reading.mp4", then)["status"] == "failed"
    make(first, then)
    assert (built.record("globe-reading.mp4", first), broken.read_bytes()) == before
    made = built.record("globe-reading.mp4", then)
    assert made["status"] == "ok"
    assert "unread" not in made


def test_what_was_written_and_can_not_be_read_is_the_videos_own(make: Callable[..., Any]) -> None:
    """Made again it would be the same, so that no call would end."""
    built = make("audio")
    video = built.video("globe-reading.mp4")
    empty(built.audio("globe-reading.mp4"))
    path = built.index.layout.record(video, "audio")
    record = AudioRecord.read(path)
    held = promises.content(load("audio"), built.index.layout, video, record)
    replace(record, content=held).write(path)
    make("transcript")
    made = built.record("globe-reading.mp4", "transcript")
    assert made["status"] == "none"
    assert "can't be read" in made["why"]
    assert "unread" not in made
