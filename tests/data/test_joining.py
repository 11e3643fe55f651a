"""The manifest that a run keeps for itself."""

import json
from pathlib import Path

import pytest

from spark_trainer.data import joining, manifest, parts
from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout, Shard, Video

ENTRY = {"id": "a", "frames_dir": None, "audio": None, "meta": {"caption": "a dog"}}


def test_a_given_manifest_is_kept_as_it_is(tmp_path: Path) -> None:
    given, kept = tmp_path / "given.jsonl", tmp_path / "kept.jsonl"
    given.write_text(json.dumps(ENTRY) + "\n\n")
    joining.collect(given, None, kept, tmp_path / "refused.jsonl")
    assert kept.read_bytes() == given.read_bytes()
    assert not (tmp_path / "refused.jsonl").exists()


def test_what_is_wrong_in_it_is_named_by_its_own_name(tmp_path: Path) -> None:
    given, kept = tmp_path / "given.jsonl", tmp_path / "kept.jsonl"
    given.write_text("[]\n")
    with pytest.raises(manifest.Broken, match=f"^{given}:1: "):
        joining.collect(given, None, kept, tmp_path / "refused.jsonl")
    assert not kept.exists()


def test_parts_are_joined_and_rejected_videos_put_aside(tmp_path: Path) -> None:
    fine, bad = (Video(letter * 64, letter * 2) for letter in "ab")
    layout, shard = Layout(tmp_path), Shard("", (fine, bad))
    part, snapshot, listed = (tmp_path / name for name in ("part", "snapshot", "listed"))
    reason = {"id": bad.hash, "reason": "no pictures", "step": "frames", "meta": {}}
    parts.write(part, [ENTRY | {"id": fine.hash}, reason])
    members = layout.shard(shard.name)
    write_json(members, [[video.hash, video.folder] for video in shard.videos])
    write_json(snapshot, {fine.hash: ["a.mp4", "copy.mp4"], bad.hash: ["b.mp4"]})
    write_json(listed, [[str(part), str(members)]])
    kept, refused = tmp_path / "kept.jsonl", tmp_path / "refused.jsonl"
    joining.collect(listed, snapshot, kept, refused)
    [entry] = manifest.read(kept)
    assert entry["meta"]["sources"] == ["a.mp4", "copy.mp4"]
    [left_out] = manifest.rejected(refused)
    assert (left_out["reason"], left_out["source_path"]) == ("no pictures", "b.mp4")
