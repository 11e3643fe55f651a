"""What a build reads of corrections is named by its content, for each step by what it reads."""

from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import Config, ConfigError, load
from spark_trainer.data import corrected, corrections, index
from spark_trainer.data.corrections import KINDS
from spark_trainer.data.files import Broken
from spark_trainer.data.index import Index
from spark_trainer.data.layout import Video

CAPTION = ("caption",)


@pytest.fixture
def config(two_clips: dict[str, str]) -> Config:
    """A folder of two clips."""
    return load(two_clips)


def say(found: Index, config: Config, by: str = "Ada", **said: Any) -> str:
    """Say something of the first video; returns its hash."""
    video = next(iter(found.videos))
    corrections.edit(config.corrections, found.layout, video, said, by)
    return video


def told(found: Index, kinds: tuple[str, ...]) -> list[str]:
    [shard] = found.shards
    return [video.correction for video in found.told(shard, kinds).videos if video.correction]


def test_a_step_is_told_of_what_it_reads_alone(config: Config) -> None:
    plain = index.scan(config)
    assert plain.snapshot == plain.digest
    assert plain.told(plain.shards[0], KINDS) is plain.shards[0]
    say(plain, config, transcript="hello")
    spoken = index.scan(config)
    assert spoken.shards == plain.shards
    assert told(spoken, CAPTION) == []
    [first] = told(spoken, KINDS)
    say(plain, config, caption="a dog")
    both = index.scan(config)
    assert len(told(both, CAPTION)) == 1
    assert told(both, KINDS) != [first]
    say(plain, config, caption=None, transcript=None)
    assert index.scan(config).snapshot == plain.snapshot


def test_a_job_reads_what_was_said_when_its_build_began(config: Config) -> None:
    video = say(index.scan(config), config, caption="a dog", flag="look")
    began = index.scan(config)
    say(began, config, caption="a cat")
    loaded = index.load(config, began.snapshot)
    assert loaded.notes == began.notes
    [shard] = loaded.shards
    path = loaded.layout.shard(loaded.told(shard, CAPTION).name)
    one = next(one for one in loaded.layout.read_shard(path).videos if one.hash == video)
    found = corrected.of(loaded.layout, one)
    assert found is not None
    assert found.caption is not None
    assert (found.caption.text, found.flag) == ("a dog", None)


def test_a_damaged_copy_is_made_again(config: Config) -> None:
    say(index.scan(config), config, caption="a dog")
    found = index.scan(config)
    [(video, notes)] = found.notes.items()
    one = Video(video, "", corrected.name(notes, CAPTION))
    copy = corrected.copy(found.layout, video, one.correction)
    copy.write_text(copy.read_text().replace("dog", "cat"))
    with pytest.raises(Broken, match="not what its name stands for"):
        corrected.of(found.layout, one)
    with pytest.raises(Broken, match="gone"):
        corrected.of(found.layout, one)
    again = index.scan(config)
    assert corrected.of(again.layout, one)
    (found.layout.corrected / f"{found.corrected}.json").write_text("{}")
    with pytest.raises(ConfigError, match="run snakemake again"):
        index.load(config, found.snapshot)


def test_corrections_without_a_video_are_told(config: Config, tmp_path: Path) -> None:
    found = index.scan(config)
    corrections.edit(config.corrections, found.layout, "0" * 64, {"flag": "x"}, "Ada")
    after = index.scan(config)
    assert after.snapshot == found.snapshot
    assert after.search.notes()[-1] == "corrections of no video here: 1 (000000000000)"
    elsewhere = load(config.model_dump() | {"corrections_dir": str(tmp_path / "mine")})
    with pytest.raises(ConfigError, match=r"corrections_dir: no such folder: .*mine"):
        index.scan(elsewhere)
    elsewhere.corrections.mkdir()
    assert index.scan(elsewhere).search.strays == []


def test_a_run_is_another_by_what_it_learns(config: Config) -> None:
    """Whoever said it, and whatever is remarked."""
    found = index.scan(config)

    def learnt() -> object:
        return corrected.learnt(index.scan(config).notes)

    say(found, config, flag="look again")
    assert learnt() == {}
    say(found, config, caption="a dog")
    first = learnt()
    say(found, config, "Bob", caption="a dog", flag=None)
    assert learnt() == first
    say(found, config, exclude="no consent")
    left_out = learnt()
    assert left_out != first
    say(found, config, exclude="another reason", caption="a cat")
    assert learnt() == left_out
