"""Videos are known by content, whatever they are called; only what changed is read again."""

import os
import shutil
from pathlib import Path

import pytest

from spark_trainer.config import Config, ConfigError, load
from spark_trainer.data import forgotten, index
from spark_trainer.data.files import file_digest, write_text
from spark_trainer.data.forgotten import Tombstone
from spark_trainer.data.search import find

CLIPS = Path(__file__).resolve().parents[2] / "config/demo/clips"


@pytest.fixture
def config(two_clips: dict[str, str]) -> Config:
    """A folder of two clips."""
    return load(two_clips)


def videos_of(config: Config) -> Path:
    return config.video_dirs[0]


def found_names(config: Config) -> list[str]:
    return [file.name for file in find(config).files]


def reads(config: Config) -> list[int]:
    """Sizes of the files that a scan reads."""
    sizes: list[int] = []
    index.scan(config, sizes.append)
    return sizes


def test_identity_is_the_content(config: Config) -> None:
    found = index.scan(config)
    folder = videos_of(config)
    assert found.sources == {file_digest(folder / n): [n] for n in ("dog.mp4", "title.mp4")}
    for video in found.videos.values():
        assert video.folder == f"{video.hash[:2]}/{video.hash}"


def test_two_names_of_one_content_are_one_video(config: Config) -> None:
    before = index.scan(config)
    (videos_of(config) / "a folder").mkdir()
    shutil.copy(videos_of(config) / "dog.mp4", videos_of(config) / "a folder/copy.mp4")
    after = index.scan(config)
    assert after.videos == before.videos
    assert ["a folder/copy.mp4", "dog.mp4"] in after.sources.values()
    assert after.digest != before.digest
    assert after.shards == before.shards


def test_a_move_is_known_without_a_new_video(config: Config) -> None:
    before = index.scan(config)
    (videos_of(config) / "dog.mp4").rename(videos_of(config) / "renamed.mp4")
    after = index.scan(config)
    assert after.videos == before.videos
    source = after.layout.source(file_digest(CLIPS / "dog.mp4"))
    assert source.resolve() == (videos_of(config) / "renamed.mp4").resolve()


def test_only_what_changed_is_read_again(config: Config) -> None:
    assert len(reads(config)) == 2
    assert reads(config) == []
    dog = videos_of(config) / "dog.mp4"
    os.utime(dog)
    assert reads(config) == [dog.stat().st_size]
    shutil.copy(CLIPS / "cup.mp4", dog)
    assert reads(config) == [(CLIPS / "cup.mp4").stat().st_size]
    assert reads(config) == []


def test_a_forgotten_video_is_read_once_and_only_its_own_note_says_its_hash(config: Config) -> None:
    layout = index.scan(config).layout
    dog = file_digest(CLIPS / "dog.mp4")
    Tombstone(dog, "2026-11-27", "me", "no consent", finished=True).write(layout)
    assert [*index.scan(config).sources.values()] == [["title.mp4"]]
    shutil.copy(CLIPS / "dog.mp4", videos_of(config) / "other name.mp4")
    assert len(reads(config)) == 1
    assert reads(config) == []
    assert dog not in layout.index_cache.read_text()
    noted = forgotten.every(layout)[dog].files
    assert sorted(Path(path).name for path in noted) == ["dog.mp4", "other name.mp4"]
    (videos_of(config) / "dog.mp4").unlink()
    assert [*index.scan(config).sources.values()] == [["title.mp4"]]
    assert len(forgotten.every(layout)[dog].files) == 1


def test_touching_changes_nothing(config: Config) -> None:
    before = index.scan(config).digest
    os.utime(videos_of(config) / "dog.mp4")
    assert index.scan(config).digest == before


def test_rehash_finds_an_edit_that_keeps_size_and_time(config: Config) -> None:
    before = index.scan(config).digest
    dog = videos_of(config) / "dog.mp4"
    stat = dog.stat()
    content = bytearray(dog.read_bytes())
    content[-1] ^= 1
    dog.write_bytes(content)
    os.utime(dog, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert index.scan(config).digest == before
    again = load(config.model_dump() | {"index": {"rehash": True}})
    assert index.scan(again).digest != before


def test_a_snapshot_does_not_see_what_came_later(config: Config) -> None:
    before = index.scan(config)
    shutil.copy(CLIPS / "cup.mp4", videos_of(config) / "cup.mp4")
    after = index.scan(config)
    assert len(after.videos) == 3
    assert index.load(config, before.digest).sources == before.sources


def test_jobs_read_the_snapshot(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(index.SNAPSHOT_VARIABLE, raising=False)
    before = index.open_index(config, main_process=True)
    shutil.copy(CLIPS / "cup.mp4", videos_of(config) / "cup.mp4")
    assert index.open_index(config, main_process=False).sources == before.sources
    assert len(index.open_index(config, main_process=True).videos) == 3


def test_hidden_and_other_files_are_left_out(config: Config) -> None:
    folder = videos_of(config)
    (folder / ".hidden").mkdir()
    shutil.copy(CLIPS / "cup.mp4", folder / ".hidden/cup.mp4")
    shutil.copy(CLIPS / "cup.mp4", folder / ".cup.mp4")
    (folder / "notes.txt").write_text("no video")
    shutil.copy(CLIPS / "cup.mp4", folder / "LOUD.MP4")
    assert found_names(config) == ["LOUD.MP4", "dog.mp4", "title.mp4"]


def test_a_circle_of_links_ends(config: Config) -> None:
    (videos_of(config) / "loop").symlink_to(videos_of(config))
    assert found_names(config) == ["dog.mp4", "title.mp4"]


@pytest.mark.parametrize(
    "name", ["with space.mp4", 'it\'s "quoted".mp4', "-dash.mp4", "new\nline.mp4", "日本.mp4"]
)
def test_hostile_names(config: Config, name: str) -> None:
    shutil.copy(CLIPS / "cup.mp4", videos_of(config) / name)
    found = index.scan(config)
    cup = file_digest(CLIPS / "cup.mp4")
    assert found.sources[cup] == [name]
    assert file_digest(found.layout.source(cup)) == cup


def test_a_name_that_is_no_utf8(config: Config) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    shutil.copy(CLIPS / "cup.mp4", videos_of(config) / name)
    found = index.scan(config)
    assert index.load(config, found.digest).sources == found.sources
    assert [name] in found.sources.values()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    config = load({"video_dir": str(tmp_path / "none"), "output_dir": str(tmp_path / "out")})
    with pytest.raises(ConfigError, match=r"video_dir: no such folder: .*none"):
        index.scan(config)


def test_a_costly_first_look_stops_before_it_starts(config: Config) -> None:
    small = load(config.model_dump() | {"index": {"max_hash_gb": 1e-6}})
    with pytest.raises(ConfigError, match=r"index\.max_hash_gb: 2 new videos"):
        index.scan(small)
    index.scan(small, lambda size: None)  # the command that announces it may read it all
    assert len(index.scan(small).videos) == 2


def test_folders_after_the_source_file(config: Config) -> None:
    (videos_of(config) / "more").mkdir()
    shutil.copy(CLIPS / "cup.mp4", videos_of(config) / "more/dog.mp4")
    named = load(config.model_dump() | {"deterministic_layout": False})
    folders = {video.folder for video in index.scan(named).videos.values()}
    dog, cup = (file_digest(CLIPS / name)[:12] for name in ("dog.mp4", "cup.mp4"))
    assert folders == {"title", f"dog-{dog}", f"dog-{cup}"}


def test_shards_hold_every_video_once_by_its_leading_bits(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.mp4").write_bytes(bytes([number]))
    small = load(
        {
            "video_dir": str(folder),
            "output_dir": str(tmp_path / "out"),
            "index": {"shard_size": 10},
        }
    )
    found = index.scan(small)
    assert {shard.bits for shard in found.shards} == {"00", "01", "10", "11"}
    assert [v for shard in found.shards for v in shard.videos] == list(found.videos.values())
    for shard in found.shards:
        assert all(video.bits.startswith(shard.bits) for video in shard.videos)
        assert found.shard_of(shard.name) == shard


def test_a_marker_over_more_videos_stays_true_after_a_deletion(config: Config) -> None:
    before = index.scan(config)
    (shard,) = before.shards
    marker = before.layout.marker("frames", shard.name, "f" * 16)
    write_text(marker, "{}\n")
    (videos_of(config) / "dog.mp4").unlink()
    after = index.scan(config)
    (left,) = after.shards
    assert left.name != shard.name
    assert after.marker("frames", "f" * 16, left) == marker
    assert not after.marker("frames", "e" * 16, left).exists()


def test_a_marker_over_fewer_videos_is_not_enough(config: Config) -> None:
    before = index.scan(config)
    (shard,) = before.shards
    write_text(before.layout.marker("frames", shard.name, "f" * 16), "{}\n")
    shutil.copy(CLIPS / "cup.mp4", videos_of(config) / "cup.mp4")
    after = index.scan(config)
    assert not after.marker("frames", "f" * 16, after.shards[0]).exists()


BROKEN = [b"", b"{", b"[]", b"{}", b"7", b"\0\xff\xfe", b"[[[[["]


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize("kind", ["index", "shards"])
def test_a_broken_snapshot_or_member_list_is_written_again(
    config: Config, kind: str, content: bytes
) -> None:
    found = index.scan(config)
    [path] = (found.layout.state / kind).glob("*.json")
    kept = path.read_bytes()
    path.write_bytes(content)
    assert index.scan(config).digest == found.digest
    assert path.read_bytes() == kept


@pytest.mark.parametrize("content", [*BROKEN, None])
def test_a_job_names_a_broken_snapshot(config: Config, content: bytes | None) -> None:
    found = index.scan(config)
    path = found.layout.index(found.digest)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{path}: missing or broken"):
        index.load(config, found.digest)


@pytest.mark.parametrize("content", BROKEN)
def test_a_marker_over_a_broken_member_list_says_nothing(config: Config, content: bytes) -> None:
    before = index.scan(config)
    (shard,) = before.shards
    write_text(before.layout.marker("frames", shard.name, "f" * 16), "{}\n")
    (videos_of(config) / "dog.mp4").unlink()
    before.layout.shard(shard.name).write_bytes(content)
    after = index.scan(config)
    assert not after.marker("frames", "f" * 16, after.shards[0]).exists()


def test_a_store_that_cannot_be_written_is_named(config: Config) -> None:
    Path(config.output_dir).write_text("a file, no folder")
    with pytest.raises(ConfigError, match=f"output_dir: can't write {config.output_dir}"):
        index.scan(config)


def test_reserved_and_equal_names_of_files(config: Config) -> None:
    folder = videos_of(config)
    for number, name in enumerate(["encoded.mp4", "report.html.mp4", "a/Dog.mp4"]):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(bytes([number]))
    named = load(config.model_dump() | {"deterministic_layout": False})
    folders = {video.folder: h[:12] for h, video in index.scan(named).videos.items()}
    assert folders.pop("title")
    assert {name.removesuffix(f"-{start}") for name, start in folders.items()} == {
        "encoded",
        "report.html",
        "Dog",
        "dog",
    }
    assert all(name.endswith(f"-{start}") for name, start in folders.items())
