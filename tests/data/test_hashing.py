"""Each file is read once; one that can't be read, or does not rest, keeps none of the others."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import Config, load
from spark_trainer.data import hashing, index
from spark_trainer.data.files import file_digest, read_json
from spark_trainer.data.layout import Layout
from spark_trainer.data.search import find

CLIPS = Path(__file__).resolve().parents[2] / "config/demo/clips"
# What root may do that others may not: read whatever the permissions say.
AS_OTHERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
SCAN = """
import json, sys
from spark_trainer import config
from spark_trainer.data import index
found = index.scan(config.load(json.loads(sys.argv[1])))
json.dump([sorted(found.sources.values()), found.search.notes()], sys.stdout)
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A folder of two clips, and one in a folder below."""
    videos = tmp_path / "videos"
    (videos / "below").mkdir(parents=True)
    for name, place in (("dog", "dog.mp4"), ("title", "title.mp4"), ("cup", "below/cup.mp4")):
        shutil.copy(CLIPS / f"{name}.mp4", videos / place)
    return load({"video_dir": str(videos), "output_dir": str(tmp_path / "out")})


def videos_of(config: Config) -> Path:
    return config.video_dirs[0]


def names(found: index.Index) -> list[str]:
    return sorted(name for names in found.sources.values() for name in names)


def scan_as_others(config: Config) -> tuple[list[list[str]], list[str]]:
    """Scan in a process that permissions hold for: the names of each content, and the notes."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root reads everything here")
    data = json.dumps({"video_dir": config.video_dir, "output_dir": config.output_dir})
    done = subprocess.run(
        [*(AS_OTHERS if os.geteuid() == 0 else ()), sys.executable, "-c", SCAN, data],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    contents, notes = json.loads(done.stdout)
    return contents, notes


@pytest.fixture
def closed(config: Config) -> Iterator[list[Path]]:
    """Paths that a test closes; open again afterwards."""
    paths: list[Path] = []
    yield paths
    for path in paths:
        path.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "built"), [("below", False), ("below", True), ("below/cup.mp4", False)]
)
def test_what_may_not_be_read_is_named_and_comes_back(
    config: Config, closed: list[Path], name: str, built: bool
) -> None:
    if built:
        index.scan(config)
    closed.append(videos_of(config) / name)
    closed[0].chmod(0)
    contents, notes = scan_as_others(config)
    assert contents == [["dog.mp4"], ["title.mp4"]]
    assert notes == [f"video_dir: left out this time: '{closed[0]}': Permission denied"]
    closed[0].chmod(0o755)
    sizes: list[int] = []
    assert names(index.scan(config, sizes.append)) == ["below/cup.mp4", "dog.mp4", "title.mp4"]
    assert len(sizes) == (0 if built else 1)


def test_a_known_file_that_may_not_be_read_is_still_known(
    config: Config, closed: list[Path]
) -> None:
    index.scan(config)
    closed.append(videos_of(config) / "dog.mp4")
    closed[0].chmod(0)
    assert scan_as_others(config) == ([["below/cup.mp4"], ["dog.mp4"], ["title.mp4"]], [])


def test_a_file_that_went_away_keeps_no_other(config: Config) -> None:
    search = find(config)
    (videos_of(config) / "dog.mp4").unlink()
    hashes = hashing.hashes(config.index, search, {}, None)
    assert sorted(Path(path).name for path in hashes) == ["cup.mp4", "title.mp4"]
    assert [file.name for file in search.files] == ["below/cup.mp4", "title.mp4"]
    assert [str(trouble) for trouble in search.troubles] == [
        f"'{videos_of(config) / 'dog.mp4'}': No such file or directory"
    ]


def test_a_file_that_grew_before_it_was_read_is_known_as_it_is_now(config: Config) -> None:
    search = find(config)
    path = videos_of(config) / "dog.mp4"
    with open(path, "ab") as file:
        file.write(b"more")
    hashes = hashing.hashes(config.index, search, {}, None)
    assert not search.troubles
    assert hashes[str(path)] == file_digest(path)
    [now] = [file for file in search.files if file.path == str(path)]
    assert (now.size, now.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


def test_a_file_that_is_being_written_is_left_out_until_it_rests(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = videos_of(config) / "growing.mp4", hashing._digest
    path.write_bytes(b"some")

    def grow(name: str, given_up: threading.Event) -> str:
        with open(path, "ab") as file:
            file.write(b"more")
        return read(name, given_up)

    with monkeypatch.context() as patch:
        patch.setattr(hashing, "_digest", grow)
        found = index.scan(config)
    assert names(found) == ["below/cup.mp4", "dog.mp4", "title.mp4"]
    assert found.search.notes() == [
        f"video_dir: left out this time: '{path}': it changes while it is read"
    ]
    again = index.scan(config)
    assert again.sources[file_digest(path)] == ["growing.mp4"]
    assert not again.search.troubles


BROKEN: list[Any] = [b"", b"{", b"[]", b"7", b"null", b'"x"', b"\0\xff\xfe", b"[" * 100_000]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_cache_means_hashing_again(
    config: Config, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    before = index.scan(config)
    before.layout.index_cache.write_bytes(content)
    sizes: list[int] = []
    assert index.scan(config, sizes.append).digest == before.digest
    assert len(sizes) == 3
    assert f"{before.layout.index_cache}: broken" in capfd.readouterr().err
    index.scan(config)
    assert capfd.readouterr().err == ""


ROWS: list[Any] = [None, [], 7, [1, 2], ["1", 2, "a" * 64], [1, 2, "short"], [1, 2, None], {}]


@pytest.mark.parametrize("row", ROWS)
def test_a_broken_row_means_hashing_that_file_again(config: Config, row: Any) -> None:
    before = index.scan(config)
    path = before.layout.index_cache
    cache = read_json(path)
    cache[str(videos_of(config) / "dog.mp4")] = row
    path.write_text(json.dumps(cache))
    sizes: list[int] = []
    assert index.scan(config, sizes.append).digest == before.digest
    assert len(sizes) == 1


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_a_cut_cache_means_hashing_again(config: Config, cut: float) -> None:
    before = index.scan(config)
    path = before.layout.index_cache
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    assert index.scan(config).digest == before.digest
    assert path.read_bytes() == content


def test_an_emptied_folder_is_named_once_it_held_videos(config: Config) -> None:
    """As where a disk below `video_dir` is not mounted; nothing is read again when it is back."""
    (videos_of(config) / "never held any").mkdir()
    assert not index.scan(config).search.troubles
    aside = videos_of(config).parent / "aside"
    (videos_of(config) / "below").rename(aside)
    (videos_of(config) / "below").mkdir()
    found = index.scan(config)
    assert names(found) == ["dog.mp4", "title.mp4"]
    below = videos_of(config) / "below"
    assert found.search.notes() == [
        f"video_dir: left out this time: '{below}': "
        "it held 1 files and is empty now; is it mounted?"
    ]
    below.rmdir()
    aside.rename(below)
    sizes: list[int] = []
    assert len(index.scan(config, sizes.append).videos) == 3
    assert sizes == []


def test_the_cache_forgets_files_that_are_gone(config: Config) -> None:
    index.scan(config)
    (videos_of(config) / "dog.mp4").unlink()
    shutil.rmtree(videos_of(config) / "below")
    index.scan(config)
    cache = read_json(Layout(Path(config.output_dir)).index_cache)
    assert [Path(path).name for path in cache] == ["title.mp4"]
