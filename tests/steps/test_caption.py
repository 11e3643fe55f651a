"""Captions of whole videos, from frames chosen evenly."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Build = Callable[..., "Built"]  # noqa: F821  # tests/steps/conftest.py


def test_captions_say_what_is_seen_and_why_there_is_none(
    build: Build, videos: Path, clips: Path
) -> None:
    for clip in ("dog", "title", "broken"):
        shutil.copy(clips / f"{clip}.mp4", videos)
    settings = {"captioner_backend": "imagenet-tags", "batch_size": 1}
    built = build("frames", "caption", caption=settings)
    assert "Samoyed" in built.record("dog.mp4", "caption")["caption"]
    assert built.record("dog.mp4", "caption")["backend"] == "imagenet-tags"
    assert built.record("title.mp4", "caption")["caption"] == "no tag"
    broken = built.record("broken.mp4", "caption")
    assert (broken["status"], broken["caption"]) == ("none", None)
    assert broken["why"] == built.record("broken.mp4", "frames")["reason"]


@pytest.mark.parametrize(("num_frames", "numbers"), [(1, [4]), (2, [2, 6]), (9, range(1, 8))])
def test_frames_are_spread_evenly(
    num_frames: int, numbers: list[int], build: Build, videos: Path, clips: Path
) -> None:
    shutil.copy(clips / "title.mp4", videos)
    settings = {"captioner_backend": "imagenet-tags", "num_frames": num_frames}
    record = build("frames", "caption", caption=settings).record("title.mp4", "caption")
    assert record["frames"] == [f"frame_{number:06d}.jpg" for number in numbers]
