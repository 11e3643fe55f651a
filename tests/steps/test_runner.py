"""The runner, over steps that go wrong in each way: whose trouble it is decides what is left."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_trainer import steps
from spark_trainer.config import ConfigError
from spark_trainer.data.files import read_json, replacing
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.errors import MachineError
from spark_trainer.steps import audio, load, runner
from spark_trainer.steps.base import Context, Step
from spark_trainer.steps.frames import FramesRecord
from spark_trainer.steps.parallel import each
from spark_trainer.steps.promises import settled
from spark_trainer.steps.record import Status

VIDEOS = tuple(Video(f"{n:064x}", f"00/{n:064x}") for n in range(4))
SHARD = Shard("", VIDEOS)
Run = Callable[..., dict[str, int]]


Produce = Callable[["Stub", list[Video], Context], Any]


class Stub(Step[Any, FramesRecord]):
    """A step in the place of `frames` whose result is a file of each video."""

    VERSION = 1
    RECORD = FramesRecord

    def __init__(self, make: Produce) -> None:
        super().__init__("frames")
        self._make = make

    def produce(self, videos: list[Video], context: Context) -> Any:
        return self._make(self, videos, context)

    def files(self, layout: Layout, video: Video, record: FramesRecord) -> list[Path]:
        return [audio.wav(layout, video)] if record.ok else []


def take(monkeypatch: pytest.MonkeyPatch, step: Stub) -> None:
    """Put a step in the place of `frames`."""
    real = steps.load
    monkeypatch.setattr(steps, "load", lambda name: step if name == "frames" else real(name))


def nothing() -> FramesRecord:
    """What a step says of a video of which there is nothing to make."""
    return FramesRecord.nothing("too dark")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def marker(layout: Layout) -> Path:
    return layout.marker("frames", SHARD.name, "f")


@pytest.fixture
def run(layout: Layout, marker: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a step whose results are files of the video's number, and at the first video this."""

    def make(video: Video) -> FramesRecord:
        with replacing(audio.wav(layout, video)) as path:
            path.write_text(video.hash)
        return FramesRecord()

    def run(first: Callable[[], FramesRecord]) -> dict[str, int]:
        def one(video: Video, context: Context) -> FramesRecord:
            return first() if video == VIDEOS[0] else make(video)

        take(monkeypatch, Stub(lambda step, videos, context: each(step, one, videos, context)))
        return runner.run("frames", "f", SHARD, Context(layout, None, 2), marker)

    return run


def raising(error: BaseException) -> Callable[[], FramesRecord]:
    def first() -> FramesRecord:
        raise error

    return first


def status(layout: Layout, video: Video) -> str:
    return str(read_json(layout.record(video, "frames"))["status"])


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error", "clip.mp4"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "frames"),
        OSError(errno.ESTALE, "Stale file handle"),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
        MachineError("ffmpeg was killed by signal 9"),
    ],
    ids=repr,
)
def test_the_machines_trouble_is_tried_again(
    error: Exception, run: Run, layout: Layout, marker: Path
) -> None:
    """The others are made, there is no marker, and the next call makes what is left."""
    with pytest.raises(MachineError, match="1 of 4 videos failed"):
        run(raising(error))
    assert [status(layout, video) for video in VIDEOS] == ["failed", "ok", "ok", "ok"]
    assert not marker.exists()
    times = [audio.wav(layout, video).stat().st_mtime_ns for video in VIDEOS[1:]]
    assert run(nothing) == {"current": 3, "none": 1}
    assert marker.exists()
    assert [audio.wav(layout, video).stat().st_mtime_ns for video in VIDEOS[1:]] == times


@pytest.mark.parametrize(
    "error",
    [ValueError("bad box"), OSError("cannot identify image"), RecursionError(), KeyError(1)],
)
def test_anything_else_is_the_videos_own(
    error: Exception,
    run: Run,
    layout: Layout,
    marker: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        assert run(raising(error)) == {"current": 0, "rejected": 1, "ok": 3}
    record = read_json(layout.record(VIDEOS[0], "frames"))
    assert record["reason"].startswith(f"unexpected {type(error).__name__}: ")
    assert "Traceback" in caplog.text
    assert marker.exists()


def test_the_settings_trouble_stops_at_once(run: Run, layout: Layout, marker: Path) -> None:
    with pytest.raises(ConfigError):
        run(raising(ConfigError("frames.frame_rate: too high")))
    assert not marker.exists()
    assert not layout.record(VIDEOS[0], "frames").exists()


@pytest.mark.parametrize("facts", [{"fps": float("nan")}, {"codec": "\ud83d"}])
def test_facts_that_no_file_can_hold_are_the_videos_own(
    facts: dict[str, Any], run: Run, layout: Layout
) -> None:
    assert run(lambda: FramesRecord(**facts)) == {"current": 0, "rejected": 1, "ok": 3}


@pytest.mark.parametrize(
    "content",
    [b"", b'{"status": "o', b"\xff\0", b"[]", b"{}", b'{"status": "ok"}', b'"ok"', b"\0" * 200],
)
def test_a_broken_record_is_due_again(content: bytes, run: Run, layout: Layout) -> None:
    run(nothing)
    layout.record(VIDEOS[2], "frames").write_bytes(content)
    assert run(nothing) == {"current": 3, "ok": 1}


def test_a_step_that_says_nothing_of_a_video_gets_no_marker(
    layout: Layout, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(monkeypatch, Stub(lambda _, videos, __: ((video, nothing()) for video in videos[1:])))
    with pytest.raises(MachineError, match="said nothing"):
        runner.run("frames", "f", SHARD, Context(layout, None, 1), marker)
    assert not marker.exists()


def test_what_a_later_step_misses_is_made_again(run: Run, layout: Layout, marker: Path) -> None:
    """The record, its marker and all that follow are withdrawn: the next call makes them."""
    run(nothing)
    audio.wav(layout, VIDEOS[3]).unlink()
    joined = layout.marker_folder("join") / "s.json"
    joined.parent.mkdir(parents=True)
    joined.touch()
    assert settled(layout, VIDEOS[1], "frames").ok
    with pytest.raises(MachineError, match=r"audio\.wav: gone or broken"):
        settled(layout, VIDEOS[3], "frames")
    layout.sweep()
    assert not marker.exists()
    assert not joined.exists()
    assert run(nothing) == {"current": 3, "ok": 1}


def test_a_library_that_lacks_something_rejects_nobody(layout: Layout) -> None:
    """And several videos that meet one bug cost no other: each is rejected, with the reason."""

    def broken(video: Video, context: Context) -> FramesRecord:
        return getattr(runner, "nothing")  # noqa: B009

    def odd(video: Video, context: Context) -> FramesRecord:
        raise IndexError("tuple index out of range")

    step, context = load("frames"), Context(layout, None, 2)
    assert {made.status for _, made in each(step, broken, list(VIDEOS), context)} == {Status.FAILED}
    met = [made for _, made in each(step, odd, list(VIDEOS[:2]), context)]
    reason = "unexpected IndexError: tuple index out of range"
    assert met == [FramesRecord.rejected(reason)] * 2
