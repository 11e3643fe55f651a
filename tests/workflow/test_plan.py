"""What `plan` says is what the next build then does, over the cells of the rebuild matrix."""

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from tests.families import tiny

from .conftest import REPO, Clips, Workspace, source_tree, without_training

pytestmark = pytest.mark.long

Act = Callable[[], object]


def plan(workspace: Workspace, *words: str) -> dict[str, Any]:
    before = state(workspace)
    done = workspace.call("plan", *words, "--json")
    assert done.returncode == 0, done.stderr
    assert state(workspace) == before
    return dict(json.loads(done.stdout))


def state(workspace: Workspace) -> list[str]:
    """The files that no dry run writes: all but the lists that planning needs."""
    lists = (
        r"out/\.spark/(corrected|labels|index|models|outdated|shards|settings|parts|videos|seen)"
    )
    listed = rf"{lists}|config\.yaml|\.snakemake|.*__pycache__"
    files = (path for path in workspace.folder.rglob("*") if path.is_file())
    names = (path.relative_to(workspace.folder).as_posix() for path in files)
    return sorted(name for name in names if not re.match(listed, name))


def processed(workspace: Workspace, since: float) -> dict[str, int]:
    """Step -> videos that its jobs made something of, as their markers tell."""
    sealed = workspace.output / ".spark/sealed"
    made: Counter[str] = Counter()
    for marker in sealed.rglob("b*.jsonl"):
        step = marker.parent.relative_to(sealed).as_posix()
        if step != "manifest" and marker.stat().st_mtime >= since:
            counts = json.loads(marker.read_text())
            made[step] += sum(counts.values()) - counts.get("current", 0)
    return dict(made)


def holds(workspace: Workspace, *words: str) -> dict[str, Any]:
    """Plan, build, and compare; returns the plan."""
    said, since = plan(workspace, *words), time.time()
    outcome = workspace.snakemake(*words)
    assert outcome.status == 0, outcome.stderr
    assert said["jobs"] == outcome.jobs
    if words == ("manifest",):  # the job of a single video leaves no marker
        videos = {
            name: sum(len(one["videos"]) for one in due) for name, due in said["steps"].items()
        }
        assert videos == processed(workspace, since)
    return said


def reasons(said: dict[str, Any], step: str) -> list[tuple[str, str]]:
    return [(one["why"]["kind"], *one["why"]["details"]) for one in said["steps"][step]]


def test_videos_come_and_go(fresh: Workspace, clips: Clips) -> None:
    told = fresh.snakemake("plan")
    assert told.jobs == {"plan": 1}, told.stderr
    line = "dog.mp4, cup.mp4 and bunny.mp4 added → frames, audio of 3 videos"
    assert line in told.stderr.splitlines()
    assert reasons(holds(fresh, "manifest"), "frames") == [("added",)]
    assert holds(fresh, "manifest")["jobs"] == {}
    fresh.add("again", clips.content("dog", "110"))
    assert reasons(holds(fresh, "manifest"), "audio") == [("added",)]
    fresh.add("cup", clips.content("bunny", "011"))
    assert reasons(holds(fresh, "manifest"), "frames") == [("changed",)]
    (fresh.clips / "cup.mp4").rename(fresh.clips / "mug.mp4")
    assert list(holds(fresh, "manifest")["renamed"].values()) == [["mug.mp4"]]
    place = fresh.place("again")
    (fresh.clips / "again.mp4").unlink()
    said = holds(fresh, "manifest")
    assert list(said["removed"].values()) == [["again.mp4"]]
    assert [one["paths"] for one in said["unreachable"]] == [[f"out/{place}"]]
    fresh.configure("index", shard_size=3)
    assert not any(holds(fresh, "manifest")["steps"].values())


def test_settings_change_there_and_back(fresh: Workspace) -> None:
    fresh.configure("index", shard_size=4)
    fresh.configure("caption", enabled=True, captioner_backend="imagenet-tags", threshold=0.0)
    fresh.build()
    fresh.configure("frames", frame_rate=2)
    fresh.configure("audio", sample_rate=8000)
    said = holds(fresh, "manifest")
    rate = [("settings", "frames.frame_rate: 1 → 2")]
    reached = ("frames", "caption/imagenet-tags", "select")
    assert [reasons(said, step) for step in reached] == [rate, rate, rate]
    assert reasons(said, "audio") == [("settings", "audio.sample_rate: 16000 → 8000")]
    assert said["estimate"]["unknown"] == []
    assert said["estimate"]["seconds"] > 0
    fresh.configure("caption", threshold=1.0)
    assert reasons(holds(fresh, "manifest"), "select") == [("settings", "caption.threshold: 0 → 1")]
    fresh.configure("caption", enabled=False)
    fresh.configure("frames", frame_rate=1.0)
    said = holds(fresh, f"out/{fresh.place('dog')}/frames.json")
    assert reasons(said, "frames") == [("settings", "frames.frame_rate: 2 → 1")]
    said = holds(fresh, "manifest")
    assert len(said["steps"]["frames"][0]["videos"]) == 2  # dog has it by now
    assert [one["what"] for one in said["unreachable"]] == [
        f"results of {name} of 3 videos" for name in ("caption/imagenet-tags", "select")
    ]


def test_trouble_is_tried_again(built: Workspace, tmp_path: Path) -> None:
    """A step that failed, files that are gone and are taken back, another version of a step."""
    assert built.call("correct", "clips/dog.mp4", "--flag", "?").returncode == 0
    built.build()
    home = built.output / built.place("cup")
    home.rename(home.with_name("aside"))
    home.write_text("in the way")
    built.configure("frames", frame_rate=2)
    assert built.snakemake("manifest").status != 0
    home.unlink()
    home.with_name("aside").rename(home)
    assert holds(built, "manifest")["corrected"] == {}  # that build took the manifest's marker back
    shutil.rmtree(built.output / built.place("dog") / "frames")
    assert plan(built, "manifest")["jobs"] == {}
    built.configure("caption", enabled=True, captioner_backend="imagenet-tags", threshold=0.0)
    assert built.snakemake("manifest").status != 0
    said = holds(built, "manifest")
    assert "frames_shard" in said["jobs"]
    tree = source_tree(tmp_path / "upgraded")
    step = tree / "spark_trainer/steps/audio.py"
    step.write_text(re.sub(r"VERSION = (\d+)", "VERSION = 99", step.read_text()))
    built.tree = tree
    [(kind, version)] = reasons(holds(built, "manifest"), "audio")
    assert (kind, version.rpartition("→")[2]) == ("settings", " 99 of its results")


def test_names_copies_and_folders_that_lose_their_videos(fresh: Workspace, clips: Clips) -> None:
    """Two folders of videos, whose results lie in folders that are named after files."""
    more = fresh.folder / "more"
    more.mkdir()
    (fresh.clips / "bunny.mp4").rename(more / "bunny.mp4")
    fresh.config |= {"video_dir": ["clips", "more"], "deterministic_layout": False}
    fresh.config |= {"audio": {"enabled": False}, "index": {"shard_size": 8}}
    assert reasons(holds(fresh, "manifest"), "frames") == [("added",)]
    for clip in (fresh.clips / "cup.mp4", more / "bunny.mp4"):
        clip.touch()
    assert plan(fresh, "manifest")["jobs"] == {}
    shutil.copy(fresh.clips / "dog.mp4", more / "zoo.mp4")  # its folder stays that of the first
    said = holds(fresh, "manifest")
    assert list(said["renamed"].values()) == [["dog.mp4", "zoo.mp4"]]
    assert said["steps"] == {}
    fresh.add("cup", clips.content("bunny", "011"))
    (fresh.clips / "dog.mp4").rename(more / "aged.mp4")  # which its folder is named after now
    assert sorted(reasons(holds(fresh, "manifest"), "frames")) == [("changed",), ("first",)]
    for clip in more.iterdir():
        clip.unlink()
    refused = fresh.call("plan", "manifest")  # as a build does: test_matrix.py::test_delete_all
    assert "video_dir: no video in more, which held 3 in the last build" in refused.stderr
    assert refused.returncode == 1
    fresh.configure("index", allow_empty=True)
    said = holds(fresh, "manifest")
    assert sorted(said["removed"].values()) == [["aged.mp4", "zoo.mp4"], ["bunny.mp4"]]
    assert said["steps"] == {}
    assert fresh.call("forget", "clips/cup.mp4", "--yes").returncode == 0
    shutil.copy(fresh.clips / "cup.mp4", more / "again.mp4")
    fresh.add("wolf", clips.content("dog", "1"))
    said = holds(fresh, "manifest")
    assert reasons(said, "frames") == [("added",)]
    assert [len(one["videos"]) for one in said["steps"]["frames"]] == [1]
    assert [entry["meta"]["source_path"] for entry in fresh.manifest().values()] == ["wolf.mp4"]


def test_steps_and_models_that_change(tmp_path: Path) -> None:
    """Pose and transcripts with other settings, then other weights behind the same folder."""
    workspace = Workspace(tmp_path)
    workspace.add("speaker", (REPO / "tests/assets/speaker.mp4").read_bytes())
    model = tiny.qwen2_vl(tmp_path / "qwen")
    workspace.configure(
        "transcript", enabled=True, backend="faster-whisper", whisper_model="offline-tiny.en"
    )
    workspace.configure("transcript", device="auto")
    workspace.configure("caption", enabled=True, captioner_backend="qwen2-vl")
    workspace.configure("caption", model_name=str(model), device="auto", max_new_tokens=2)
    workspace.configure("pose", enabled=True, max_seconds=0.2)
    holds(workspace, "manifest")
    workspace.configure("transcript", silence_db=-1.0, batch_size=3)
    workspace.configure("caption", device="cpu", batch_size=3)
    workspace.configure("pose", max_seconds=0.1)
    said = holds(workspace, "manifest")
    told = {step: reasons(said, step) for step in said["steps"]}
    assert told == {
        "transcript": [("settings", "transcript.silence_db: -60 → -1")],
        "pose": [("settings", "pose.max_seconds: 0.2 → 0.1")],
    }
    weights = model / "model.safetensors"
    held = load_file(weights)
    first = next(iter(held))
    save_file(held | {first: held[first] * 2}, weights, {"format": "pt"})
    workspace.configure("pose", enabled=False)
    said = holds(workspace, "manifest")
    told = {step: reasons(said, step) for step in said["steps"]}
    another = [("settings", "caption/qwen2-vl: another model")]
    assert told == {"caption/qwen2-vl": another, "select": another}
    assert said["switched_off"] == ["pose"]


def test_runs_that_their_data_or_settings_set_apart(built: Workspace, tmp_path: Path) -> None:
    workspace = built.copy(tmp_path / "here", without_training(tmp_path / "tree"))
    workspace.configure(
        "train",
        model_name=str(REPO / "config/demo/blip-small"),
        from_scratch=True,
        text={"answer": "{source_path}"},
        runs={"slow": {"seed": 1}, "fast": {"seed": 2}},
        allow_cpu=True,
        min_gpus=0,
        gpus=0,
    )

    def told(said: dict[str, Any]) -> dict[str, list[str]]:
        return {run["name"]: run["why"] for run in said["runs"]}

    assert told(holds(workspace, "train")) == {"slow": ["new"], "fast": ["new"]}
    assert plan(workspace, "train")["jobs"] == {}
    workspace.config["train"]["runs"]["slow"]["seed"] = 3
    said = holds(workspace, "train")
    assert told(said) == {"slow": ["seed: 1 → 3"]}
    assert said["estimate"]["unknown"] == []
    workspace.configure("frames", frame_rate=2)
    why = ["its data changed"]
    assert told(holds(workspace, "train")) == {"slow": why, "fast": why}
