"""A folder that lost all its videos, as one that is not mounted has, never empties a manifest."""

import shutil
from pathlib import Path

import pytest

from spark_trainer.config import Config, ConfigError, load
from spark_trainer.data import index

CLIPS = Path(__file__).resolve().parents[2] / "config/demo/clips"


@pytest.fixture
def config(two_clips: dict[str, str]) -> Config:
    """A folder of two clips."""
    return load(two_clips)


def videos_of(config: Config) -> Path:
    return config.video_dirs[0]


def emptied(config: Config, places: dict[str, str] | None = None, **keys: object) -> str:
    """What is said where a scan stops."""
    changed = config.model_dump() | {"index": keys} | (places or {})
    with pytest.raises(ConfigError) as raised:
        index.scan(load(changed))
    return str(raised.value)


def test_an_emptied_folder_stops_unless_told(config: Config) -> None:
    before = index.scan(config)
    aside = videos_of(config).with_name("aside")
    videos_of(config).rename(aside)
    videos_of(config).mkdir()
    for _ in range(2):
        said = emptied(config)
        assert said == (
            f"video_dir: no video in {videos_of(config)}, which held 2 in the last build; "
            "is it mounted? `index.allow_empty: true` lets the manifest lose them"
        )
    told = load(config.model_dump() | {"index": {"allow_empty": True}})
    assert index.scan(told).search.notes() == [f"video_dir: no video in {videos_of(config)}"]
    assert not index.scan(config).videos  # once told, it is so
    videos_of(config).rmdir()
    aside.rename(videos_of(config))
    assert index.scan(config).digest == before.digest


def test_one_of_several_folders_stops_too(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    other = videos_of(config).with_name("other")
    other.mkdir()
    shutil.copy(CLIPS / "cup.mp4", other)
    both = load(config.model_dump() | {"video_dir": [config.video_dir, str(other)]})
    assert len(index.scan(both).videos) == 3
    (other / "cup.mp4").rename(other / "cup.txt")
    said = emptied(both)
    assert said.startswith(f"video_dir: no video in {other}, which held 1 in the last build")
    notes = capsys.readouterr().err.splitlines()
    assert notes == ["video_dir: left out by ending: 1 .txt; index.extensions takes more"]
    assert len(index.scan(config).videos) == 2  # a folder that is not configured any more
    assert len(index.scan(both).videos) == 2


def test_videos_that_moved_to_another_folder_are_not_lost(config: Config) -> None:
    other = videos_of(config).with_name("other")
    other.mkdir()
    both = load(config.model_dump() | {"video_dir": [config.video_dir, str(other)]})
    before = index.scan(both)
    for path in videos_of(config).iterdir():
        path.rename(other / path.name)
    assert index.scan(both).digest == before.digest


def test_another_folder_that_is_empty_stops(config: Config, tmp_path: Path) -> None:
    index.scan(config)
    (tmp_path / "none").mkdir()
    assert f"no video in {tmp_path / 'none'}, but {config.output_dir} was built from some" in (
        emptied(config, {"video_dir": str(tmp_path / "none")})
    )


def test_a_manifest_without_a_cache_stops_as_well(config: Config) -> None:
    found = index.scan(config)
    found.layout.manifest.write_text("{}\n")
    shutil.rmtree(found.layout.state)
    for path in videos_of(config).iterdir():
        path.unlink()
    assert "was built from some" in emptied(config)


def test_deleting_some_needs_no_word(config: Config) -> None:
    index.scan(config)
    (videos_of(config) / "dog.mp4").unlink()
    assert len(index.scan(config).videos) == 1


def test_a_first_look_at_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    config = load({"video_dir": str(tmp_path / "videos"), "output_dir": str(tmp_path / "out")})
    assert index.scan(config).search.notes() == [f"video_dir: no video in {tmp_path / 'videos'}"]
