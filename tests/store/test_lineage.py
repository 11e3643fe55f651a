"""Lineage is told both ways, over three generations with a clip replaced between."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from prov.model import ProvDerivation, ProvDocument, ProvInvalidation, ProvMembership

from spark_trainer.config import Run
from spark_trainer.data import forgotten, manifest
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError
from spark_trainer.runs import folder, record
from spark_trainer.runs.folder import RunFolder
from spark_trainer.store import clips, lineage, lineage_text, prov
from spark_trainer.store.lineage import Runs

OLD, NEW, KEPT, HELD = (digit * 64 for digit in "abcd")


def write(runs: Path, name: str, videos: list[str], **said: Any) -> RunFolder:
    """A run's folder as a launch leaves it; HELD is held out."""
    run = RunFolder(runs / name)
    run.path.mkdir(parents=True)
    chosen = Run(split={"validation": 0, "validation_paths": ["held.mp4"]})
    settings = chosen.model_dump(mode="json")
    run.run_file.write_text(json.dumps({"settings": settings, "versions": {"frames": "0" * 16}}))
    entries = [
        {
            "id": video,
            "frames_dir": None,
            "audio": None,
            "meta": {"source_path": "held.mp4" if video == HELD else f"{video[0]}.mp4"},
        }
        for video in sorted(videos)
    ]
    manifest.write(run.manifest, entries)
    model = said.pop("transcriber_model", None)
    lineage_said = {
        "videos": {video: {"captioner": "blip", "transcriber_model": model} for video in videos},
        "manifest_sha256": "0" * 64,
        "spark_trainer": "1",
        "code": None,
        "python": "3.11",
        "packages": {"torch": "2"},
        "processes": 1,
        "device": "cpu",
        "gpus": [],
    }
    run.lineage.write_text(json.dumps(lineage_said | said))
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Grandchild from child from first; OLD was replaced by NEW after first; another heard both."""
    write(tmp_path / "runs", "first-11111111", [OLD, KEPT, HELD])
    write(tmp_path / "runs", "child-22222222", [NEW, KEPT, HELD], base_run="first-11111111")
    write(tmp_path / "runs", "grand-33333333", [NEW, HELD], continued_from="child-22222222")
    heard = str(tmp_path / "runs/first-11111111/final/ct2")
    write(tmp_path / "runs", "deaf-44444444", [KEPT], transcriber_model=heard)
    return Runs(folder.below(tmp_path / "runs"))


def named(links: list[lineage.Link]) -> list[str]:
    return [str(link) for link in links]


def test_a_run_is_traced_to_all_before_and_after(runs: Runs, tmp_path: Path) -> None:
    grand = lineage.of_run(runs.folders["grand-33333333"], runs)
    assert [lineage.Link(**link).earlier for link in grand["before"]] == [
        "child-22222222",
        "first-11111111",
    ]
    assert grand["after"] == []
    assert grand["videos"] == {"train": 1, "validation": 1}
    first = lineage.of_run(runs.folders["first-11111111"], runs)
    assert set(named([lineage.Link(**link) for link in first["after"]])) == {
        "child-22222222 begins with the weights of first-11111111",
        "deaf-44444444 has transcripts by first-11111111",
        "grand-33333333 goes on from child-22222222",
    }
    assert "grand-33333333 goes on from child-22222222" in lineage_text.text(first)


@pytest.mark.parametrize(
    ("video", "saw", "through"),
    [
        (OLD, {"first": "train"}, {"child", "grand", "deaf"}),
        (NEW, {"child": "train", "grand": "train"}, set()),
        (KEPT, {"first": "train", "child": "train", "deaf": "train"}, {"grand"}),
        (HELD, dict.fromkeys(("first", "child", "grand"), "validation"), {"deaf"}),
    ],
)
def test_a_video_is_traced_to_every_run(
    video: str, saw: dict[str, str], through: set[str], runs: Runs, tmp_path: Path
) -> None:
    said = lineage.of_clip(clips.Clip(video, ()), runs, Layout(tmp_path))
    assert {name[:-9]: split for name, split in said["runs"].items()} == saw
    assert {name[:-9] for name in said["through"]} == through
    assert video in lineage_text.text(said)


def test_a_run_is_traced_under_any_name_of_its_folder(runs: Runs, tmp_path: Path) -> None:
    """A folder that was renamed or copied is the run that was launched; one that is gone, too."""
    before = {*named(runs.links)}
    for name in runs.folders:
        said = json.loads((tmp_path / "runs" / name / "run.json").read_text())
        said |= dict(zip(("name", "seal"), name.split("-"), strict=True))
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps(said))
    (tmp_path / "runs/child-22222222").rename(tmp_path / "runs/the-best")
    shutil.copytree(tmp_path / "runs/first-11111111", tmp_path / "runs/copy")
    found = Runs(folder.below(tmp_path / "runs"))
    assert found.folders.keys() == runs.folders.keys()
    assert {*named(found.links)} == before
    said = lineage.of_run(RunFolder(tmp_path / "runs/the-best"), found)
    assert [link["earlier"] for link in said["before"]] == ["first-11111111"]
    assert [link["later"] for link in said["after"]] == ["grand-33333333"]
    saw = lineage.of_clip(clips.Clip(NEW, ()), found, Layout(tmp_path))["runs"]
    assert saw.keys() == {"child-22222222", "grand-33333333"}
    for name in ("first-11111111", "copy"):
        shutil.rmtree(tmp_path / "runs" / name)
    left = Runs(folder.below(tmp_path / "runs"))
    assert "deaf-44444444 has transcripts by first-11111111" in named(left.links)


def test_it_tells_by_which_settings_revision_and_prompt(tmp_path: Path) -> None:
    made = {"frames": {"fingerprint": "0" * 16, "settings": {"frame_rate": 1.0}}}
    run = write(tmp_path / "runs", "first-11111111", [KEPT], made_by=made)
    by = {
        "captioner": "blip",
        "captioner_model": "m",
        "captioner_revision": "r",
        "caption_prompt": "a",
    }
    meta = {"source_path": "a.mp4", "transcriber_model": "tiny", **by}
    manifest.write(run.manifest, [{"id": KEPT, "frames_dir": None, "audio": None, "meta": meta}])
    said = lineage.of_run(run, Runs([run]))
    assert said["captions"] == {"blip, m, revision r, prompt a": 1}
    assert said["transcripts"] == {"tiny": 1}
    assert "frames 0000000000000000: frame_rate: 1.0" in lineage_text.text(said)


def test_it_is_told_in_the_words_of_prov(runs: Runs, tmp_path: Path) -> None:
    """What another reader of PROV-JSON finds is what `lineage` tells, and is valid."""
    run, layout = runs.folders["child-22222222"], Layout(tmp_path)
    said = lineage.of_run(run, runs)
    videos = lineage.splits(run, record.described(run)["videos"])
    document = ProvDocument.deserialize(content=prov.of_run(said, videos), format="json")
    document.unified()  # which raises where a constraint of PROV doesn't hold
    links = [lineage.Link(**link) for link in [*said["before"], *said["after"]]]
    derived = {tuple(map(str, one.args[:2])) for one in document.get_records(ProvDerivation)}
    assert derived == {(f"model:{one.later}", f"model:{one.earlier}") for one in links}
    members = [str(one.args[1]) for one in document.get_records(ProvMembership)]
    assert sorted(members) == [f"video:{video}" for video in sorted(videos)]
    [held] = document.get_record(f"video:{HELD}")
    assert [str(value) for _, value in held.attributes] == ["validation"]
    forgotten.Tombstone(OLD, "2026-11-27T00:00:00+00:00", "me", "no consent").write(layout)
    told = lineage.of_clip(clips.Clip(OLD, ()), runs, layout)
    document = ProvDocument.deserialize(content=prov.of_clip(told, runs.links), format="json")
    document.unified()
    [gone] = document.get_records(ProvInvalidation)
    assert str(gone.args[0]) == f"video:{OLD}"


def test_a_damaged_lineage_is_named(runs: Runs, tmp_path: Path) -> None:
    run = runs.folders["deaf-44444444"]
    run.lineage.write_text("{")
    with pytest.raises(UserError, match=r"deaf-44444444/lineage.json: .*damaged"):
        lineage.of_clip(clips.Clip(KEPT, ()), runs, Layout(tmp_path))


def test_a_video_is_found_by_what_a_user_knows_of_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    layout.state.mkdir(parents=True)
    rows = {"videos/a/dog.mp4": [1, 1, OLD], "videos/b/dog.mp4": [1, 1, NEW]}
    layout.index_cache.write_text(json.dumps(rows))
    assert clips.find(layout, OLD[:8]).hash == OLD
    assert clips.find(layout, "b/dog.mp4").hash == NEW
    assert clips.find(layout, KEPT).hash == KEPT  # whole, so it may be forgotten ahead
    with pytest.raises(UserError, match="names 2 videos"):
        clips.find(layout, "dog.mp4")
    with pytest.raises(UserError, match="no video here"):
        clips.find(layout, "cat.mp4")
    file = tmp_path / "new.mp4"
    file.write_bytes(b"new")
    assert len(clips.find(layout, str(file)).hash) == 64
