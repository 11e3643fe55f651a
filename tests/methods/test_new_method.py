"""The page about a new method is true: a model learns by it, in a copy of the tree."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.documented.pages import commands
from tests.documented.worked import python, tree_with
from tests.families import tiny, tiny_pipelines
from tests.workflow.conftest import REPO, Workspace

PAGE = REPO / "docs/new-method.md"
NAME = "spark_trainer/methods/raft.py"
SMALL = {
    "split": {"validation": 0.25},
    "max_steps": 30,
    "eval_steps": 6,
    "batch_size": 4,
    "learning_rate": 0.005,
    "schedule": "constant",
    "num_samples": 1,
    "max_new_tokens": 5,
    "num_workers": 0,
    "min_gpus": 0,
    "allow_cpu": True,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the method of the page."""
    tree, made, added = tree_with(PAGE, tmp_path_factory.mktemp("new_method") / "tree")
    assert made == {NAME}
    assert added == {"spark_trainer/config/model.py": 1}
    return tree


def videos(folder: Path) -> Path:
    """Write the manifest of twelve videos of noise, each of one frame."""
    noise, entries = np.random.default_rng(0), []
    for number in range(12):
        video = hashlib.sha256(str(number).encode()).hexdigest()
        (folder / video / "frames").mkdir(parents=True)
        pixels = noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / video / "frames/frame_000001.jpg")
        meta: dict[str, Any] = {"caption": "tags: beagle", "frame_times": [0.0]}
        entries.append({"id": video, "frames_dir": f"{video}/frames", "audio": None, "meta": meta})
    entries.sort(key=lambda entry: str(entry["id"]))
    path = folder / "manifest_v1.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_the_page_says_how_many_files_are_touched(tree: Path) -> None:
    assert "One file, and its name in one list." in PAGE.read_text(encoding="utf-8")
    assert len((tree / NAME).read_text().splitlines()) <= 75


@pytest.mark.long
def test_the_reward_rises_and_the_best_is_the_highest(tree: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, tree)
    workspace.clips.mkdir()
    manifest = videos(tmp_path / "data")
    model = tiny.blip(tmp_path / "blip")
    workspace.configure("train", manifest_path=str(manifest), model_name=str(model), **SMALL)
    [command] = [line for line in commands() if "raft" in line]
    [given] = re.findall(r"'(.*)'", command)
    # One thread: tiny models lose more to the threads' meetings than they gain.
    done = workspace.snakemake("train", "--cores", "1", "--config", given)
    assert done.status == 0, done.stderr
    assert done.jobs["train_run"] == 1
    [run] = (tmp_path / "runs").glob("default-*")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rewards = {x["step"]: x["held_out_reward"] for x in lines if "held_out_reward" in x}
    summary = json.loads((run / "trained.json").read_text())
    assert rewards[0] < 0.5 < rewards[30]
    assert summary["best_reward"] == max(rewards.values())
    assert rewards[summary["best_step"]] == max(rewards.values())
    first, last = rewards[0], rewards[30]
    assert f"held-out reward {first:.3f} → {last:.3f}" in done.stderr
    assert f"| highest held-out reward | {max(rewards.values()):.4f} at" in card(run)
    listed = python(tree, "spark_trainer", "runs", "--output-dir", str(tmp_path / "runs"))[1]
    assert "held-out reward" in listed
    assert f"{first:.3f} → {last:.3f}" in listed
    [shown] = json.loads((run / "samples/step_00000030.json").read_text())
    assert [word[0] for word in shown["generated"].split()[:3]].count("s") >= 2


def card(run: Path) -> str:
    return (run / "final/README.md").read_text(encoding="utf-8")


REFINE = """
from spark_trainer.methods.supervised import Supervised


class Refined(Supervised):
    model_types = ("refine",)
"""


def test_all_that_a_kind_needs_follows_for_a_new_method(tree: Path, tmp_path: Path) -> None:
    """One for diffusion: its encoders run ahead, and settings of other kinds are refused."""
    copy = shutil.copytree(tree, tmp_path / "tree")
    (copy / "spark_trainer/methods/refine.py").write_text(REFINE)
    known = copy / "spark_trainer/config/model.py"
    known.write_text(
        known.read_text().replace('"raft": "vis', '"refine": "diffusion",\n    "raft": "vis')
    )
    workspace = Workspace(tmp_path, copy)
    workspace.add("title", (REPO / "config/demo/clips/title.mp4").read_bytes())
    train = {"model_type": "refine", "clip": {"num_frames": 4, "fps": 4.0}}
    workspace.configure("train", model_name=str(tiny_pipelines.svd(tmp_path / "svd")), **train)
    assert "encode" in workspace.snakemake("train", "-n").stdout
    workspace.configure("train", packing=True, **train)
    refused = workspace.snakemake("train", "-n")
    assert "packing: expected false for diffusion" in refused.stderr


@pytest.mark.parametrize("wrong", ["families", "train"])
def test_the_seams_say_where_it_does_not_belong(tree: Path, tmp_path: Path, wrong: str) -> None:
    copy = shutil.copytree(tree, tmp_path / "tree")
    (copy / NAME).rename(copy / f"spark_trainer/{wrong}/raft.py")
    [(test, message)] = re.findall(
        rf"^\| in `{wrong}/` \| `(\w+)`: `(.*)` \|$", said(), re.MULTILINE
    )
    status, printed = python(copy, "pytest", "-n", "0", "tests/test_architecture.py", "-k", test)
    assert status == 1
    assert message in printed


def test_a_name_that_is_in_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("train: {model_type: raft}\n")
    _, printed = python(REPO, "spark_trainer", "validate", "--config", str(tmp_path / "mine.yaml"))
    [message] = re.findall(r"^\| not in the list \| `(.*)` \|$", said(), re.MULTILINE)
    assert message in printed


def said() -> str:
    return PAGE.read_text(encoding="utf-8")
