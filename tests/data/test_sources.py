"""A step knows whether its video is still the one that was indexed, whatever the store's clock."""

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from spark_trainer.config import Config, load
from spark_trainer.data import index, sources
from spark_trainer.data.files import file_digest, read_json
from spark_trainer.data.layout import Layout, Video
from spark_trainer.errors import of_machine
from tests.mounted import coarse

CLIPS = Path(__file__).resolve().parents[2] / "config/demo/clips"


def config_of(folder: Path, output: Path) -> Config:
    return load({"video_dir": str(folder), "output_dir": str(output)})


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder of one video."""
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(CLIPS / "dog.mp4", folder)
    return folder


def scanned(folder: Path, output: Path) -> tuple[Layout, Video]:
    """Index a folder of one video."""
    found = index.scan(config_of(folder, output))
    [video] = found.videos.values()
    return found.layout, video


def test_a_store_whose_clock_counts_seconds(videos: Path, tmp_path: Path) -> None:
    with coarse(tmp_path) as place:
        layout, video = scanned(videos, place / "out")
        stamp = layout.source(video.hash).lstat().st_mtime_ns
        assert stamp % 1_000_000_000 == 0
        assert sources.find(layout, video) == videos / "dog.mp4"


@pytest.mark.parametrize("tick_ns", [100, 1_000, 1_000_000_000, 2_000_000_000])
def test_the_links_own_time_says_nothing(videos: Path, tmp_path: Path, tick_ns: int) -> None:
    """As file systems round it that hold 100 ns, microseconds, or every other second."""
    layout, video = scanned(videos, tmp_path / "out")
    link = layout.source(video.hash)
    stamp = link.lstat().st_mtime_ns // tick_ns * tick_ns
    os.utime(link, ns=(stamp, stamp), follow_symlinks=False)
    assert sources.find(layout, video) == videos / "dog.mp4"


def test_a_store_without_links(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that refuses a link, as FAT does: a file then says where the video is."""

    def refused(target: str, link: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), link)

    monkeypatch.setattr(os, "symlink", refused)
    layout, video = scanned(videos, tmp_path / "out")
    assert not layout.source(video.hash).is_symlink()
    assert sources.find(layout, video) == layout.located(video.hash) == videos / "dog.mp4"
    (videos / "dog.mp4").rename(videos / "again.mp4")
    layout, video = scanned(videos, tmp_path / "out")
    assert sources.find(layout, video) == videos / "again.mp4"
    monkeypatch.undo()
    (videos / "again.mp4").rename(videos / "dog.mp4")
    layout, video = scanned(videos, tmp_path / "out")
    assert layout.source(video.hash).is_symlink()
    assert sources.find(layout, video) == videos / "dog.mp4"


def _grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def _touch(path: Path) -> None:
    os.utime(path, (1, 1))


def _circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _no_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.touch()


@pytest.mark.parametrize(
    ("act", "change"),
    [
        (_grow, "changed"),
        (_touch, "changed"),
        (Path.unlink, "went away"),
        (_no_folder, "went away"),
        (_circle, "became unreadable"),
    ],
)
def test_a_change_after_indexing_is_the_machines_trouble(
    videos: Path, tmp_path: Path, act: object, change: str
) -> None:
    layout, video = scanned(videos, tmp_path / "out")
    act(videos / "dog.mp4")  # type: ignore[operator]
    with pytest.raises(sources.Changed, match=f"dog.mp4: {change}.*run snakemake again") as raised:
        sources.find(layout, video)
    assert of_machine(raised.value)


def test_what_was_touched_is_noted_anew_under_the_same_digest(videos: Path, tmp_path: Path) -> None:
    config = config_of(videos, tmp_path / "out")
    before = index.scan(config)
    [video] = before.videos.values()
    _touch(videos / "dog.mp4")
    assert index.scan(config).digest == before.digest
    assert sources.find(before.layout, video) == videos / "dog.mp4"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0\xff", b"7", b"{}", None])
def test_a_broken_note_is_written_again(
    videos: Path, tmp_path: Path, content: bytes | None
) -> None:
    layout, video = scanned(videos, tmp_path / "out")
    note = layout.seen(video.hash)
    kept = note.read_bytes()
    if content is None:
        note.unlink()
    else:
        note.write_bytes(content)
    with pytest.raises(sources.Changed, match="run snakemake again"):
        sources.find(layout, video)
    scanned(videos, tmp_path / "out")
    assert note.read_bytes() == kept
    assert sources.find(layout, video) == videos / "dog.mp4"


def test_a_job_reads_each_note_once(tmp_path: Path) -> None:
    """2,000 videos are looked up within what reading 256 small files takes."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number}.mp4").write_text(f"video {number}")
    found = index.scan(config_of(folder, tmp_path / "out"))
    sources._note.cache_clear()
    begin = time.process_time()
    for video in found.videos.values():
        sources.find(found.layout, video)
    assert sources._note.cache_info().misses <= 256
    assert time.process_time() - begin < 2.0


def test_notes_hold_size_and_time_of_the_first_source(videos: Path, tmp_path: Path) -> None:
    shutil.copy(videos / "dog.mp4", videos / "a copy.mp4")
    layout, video = scanned(videos, tmp_path / "out")
    assert video.hash == file_digest(videos / "dog.mp4")
    stat = (videos / "a copy.mp4").stat()
    assert read_json(layout.seen(video.hash)) == {video.hash: [stat.st_size, stat.st_mtime_ns]}
