"""Documented paths, and shards named by their members."""

import hashlib
from pathlib import Path

from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout, Shard, Video, frame_name
from spark_trainer.steps import audio, frames, load


def video(number: int) -> Video:
    """A video with a hash like a real one."""
    name = hashlib.sha256(str(number).encode()).hexdigest()
    return Video(name, f"{name[:2]}/{name}")


def test_documented_paths() -> None:
    layout, one = Layout(Path("data/processed")), Video("ab" * 32, f"ab/{'ab' * 32}")
    folder = Path("data/processed/ab") / ("ab" * 32)
    assert frames.folder(layout, one) / frame_name(1) == folder / "frames/frame_000001.jpg"
    assert audio.wav(layout, one) == folder / "audio.wav"
    assert load("transcript").path(layout, one) == folder / "transcript.json"
    assert load("caption/blip").path(layout, one) == folder / "caption/blip.json"
    assert load("select").path(layout, one) == folder / "caption.json"
    assert layout.manifest == Path("data/processed/manifest_v1.jsonl")
    assert layout.rejected == Path("data/processed/rejected_v1.jsonl")


def test_bits_are_those_of_the_hash() -> None:
    name = "0f" + "0" * 62
    assert Video(name, f"0f/{name}").bits == "00001111" + "0" * 248


def test_a_named_folder_stays_in_its_shard_when_the_content_changes() -> None:
    assert Video("0f" * 32, "clip").bits == Video("f0" * 32, "clip").bits
    assert Video("0f" * 32, "clip").bits != Video("0f" * 32, "other").bits


def test_frames_sort_by_name_as_by_number() -> None:
    names = [frame_name(number) for number in (1, 2, 10, 99, 100, 999_999)]
    assert sorted(names) == names


def test_another_member_is_another_shard() -> None:
    few, more = Shard("", (video(1),)), Shard("", (video(1), video(2)))
    assert few.name != more.name
    assert few.name == Shard("", (video(1),)).name
    assert few.name.startswith("b.")
    assert Shard("01", (video(1),)).name.startswith("b01.")


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    shard = Shard("01", (video(1), video(2)))
    members = [[member.hash, member.folder] for member in shard.videos]
    write_json(layout.shard(shard.name), members)
    assert layout.read_shard(layout.shard(shard.name)) == shard
