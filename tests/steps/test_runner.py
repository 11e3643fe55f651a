"""The runner, over steps that go wrong in each way: whose trouble it is decides what is left."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spark_trainer import steps
from spark_trainer.config import ConfigError
from spark_trainer.data.files import read_json, replacing
from spark_trainer.data.layout import Layout, Shard, Video
from spark_trainer.errors import MachineError
from spark_trainer.steps import Context, Facts, shard

VIDEOS = tuple(Video(f"{n:064x}", f"00/{n:064x}") for n in range(4))
SHARD = Shard("", VIDEOS)
Run = Callable[..., dict[str, int]]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def marker(layout: Layout) -> Path:
    return layout.marker("frames", SHARD.name, "f")


@pytest.fixture
def run(layout: Layout, marker: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a step whose results are files of the video's number, and at the first video this."""

    def make(video: Video, context: Context) -> Facts:
        with replacing(layout.audio(video)) as path:
            path.write_text(video.hash)
        return {"status": "ok"}

    def run(first: Callable[[], Facts], upstream: tuple[str, ...] = ()) -> dict[str, int]:
        def one(video: Video, context: Context) -> Facts:
            return first() if video == VIDEOS[0] else make(video, context)

        def files(layout: Layout, video: Video, record: Facts) -> list[Path]:
            return [layout.audio(video)] if record.get("status") == "ok" else []

        def produce(videos: list[Video], context: Context) -> Any:
            return shard.each(one, videos, context)

        step = SimpleNamespace(VERSION=1, UPSTREAM=upstream, files=files, produce=produce)
        real = steps.load
        monkeypatch.setattr(steps, "load", lambda name: step if name == "frames" else real(name))
        return shard.run("frames", "f", SHARD, Context(layout, None, 2), marker)

    return run


def raising(error: BaseException) -> Callable[[], Facts]:
    def first() -> Facts:
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
    """The others are made, nothing is sealed, and the next call makes what is left."""
    with pytest.raises(MachineError, match="1 of 4 videos failed"):
        run(raising(error))
    assert [status(layout, video) for video in VIDEOS] == ["failed", "ok", "ok", "ok"]
    assert not marker.exists()
    times = [layout.audio(video).stat().st_mtime_ns for video in VIDEOS[1:]]
    assert run(lambda: {"status": "none"}) == {"current": 3, "none": 1}
    assert marker.exists()
    assert [layout.audio(video).stat().st_mtime_ns for video in VIDEOS[1:]] == times


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


@pytest.mark.parametrize("facts", [{"status": "ok", "fps": float("nan")}, {"status": "\ud83d"}])
def test_facts_that_no_file_can_hold_are_the_videos_own(
    facts: Facts, run: Run, layout: Layout
) -> None:
    assert run(lambda: facts) == {"current": 0, "rejected": 1, "ok": 3}


@pytest.mark.parametrize(
    "content",
    [b"", b'{"status": "o', b"\xff\0", b"[]", b"{}", b'{"status": "ok"}', b'"ok"', b"\0" * 200],
)
def test_a_broken_record_is_due_again(content: bytes, run: Run, layout: Layout) -> None:
    run(lambda: {"status": "none"})
    layout.record(VIDEOS[2], "frames").write_bytes(content)
    assert run(lambda: {"status": "none"}) == {"current": 3, "ok": 1}


def test_a_step_that_says_nothing_of_a_video_is_not_sealed(
    layout: Layout, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def produce(videos: list[Video], context: Context) -> Any:
        return ((video, {"status": "none"}) for video in videos[1:])

    step = SimpleNamespace(VERSION=1, UPSTREAM=(), files=lambda *_: [], produce=produce)
    real = steps.load
    monkeypatch.setattr(steps, "load", lambda name: step if name == "frames" else real(name))
    with pytest.raises(MachineError, match="said nothing"):
        shard.run("frames", "f", SHARD, Context(layout, None, 1), marker)
    assert not marker.exists()


def test_what_a_later_step_misses_is_made_again(run: Run, layout: Layout, marker: Path) -> None:
    """The record, its seal and all that follows are withdrawn, so that the next call makes them."""
    run(lambda: {"status": "none"})
    layout.audio(VIDEOS[3]).unlink()
    seal = layout.sealed("join") / "s.json"
    seal.parent.mkdir(parents=True)
    seal.touch()
    assert shard.settled(layout, VIDEOS[1], "frames")["status"] == "ok"
    with pytest.raises(MachineError, match=r"audio\.wav: gone or broken"):
        shard.settled(layout, VIDEOS[3], "frames")
    layout.sweep()
    assert not marker.exists()
    assert not seal.exists()
    assert run(lambda: {"status": "none"}) == {"current": 3, "ok": 1}


def test_a_library_that_lacks_something_rejects_nobody(layout: Layout) -> None:
    """And several videos that meet one bug cost no other: each is rejected, with the reason."""

    def broken(video: Video, context: Context) -> Facts:
        return {"status": getattr(shard, "nothing")}  # noqa: B009

    def odd(video: Video, context: Context) -> Facts:
        raise IndexError("tuple index out of range")

    context = Context(layout, None, 2)
    assert {f["status"] for _, f in shard.each(broken, list(VIDEOS), context)} == {"failed"}
    met = [facts for _, facts in shard.each(odd, list(VIDEOS[:2]), context)]
    assert (
        met
        == [{"status": "rejected", "reason": "unexpected IndexError: tuple index out of range"}] * 2
    )
