"""What version 0.1.0 left is taken over: nothing is built again, and a killed run goes on."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from .conftest import REPO, Workspace, source_tree

ARCHIVE = REPO / "tests/assets/release-0.1.0.tar.xz"
CPU = ("--resources", "gpu=0")


@pytest.fixture
def left(tmp_path: Path) -> Workspace:
    """The folder as the release left it, file times included, moved to another place."""
    folder = tmp_path / "moved"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="tar")
    return Workspace(folder, config=yaml.safe_load((folder / "config.yaml").read_text()))


def run_of(workspace: Workspace, name: str) -> Path:
    [folder] = workspace.folder.glob(f"runs/{name}-*")
    return folder


def bytes_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_built_again(left: Workspace) -> None:
    before = left.digests()
    assert left.build("manifest") == {}
    assert planned(left) == {"train_run": 1, "train": 1, "total": 2}  # the killed one
    assert left.digests() == before


def planned(workspace: Workspace) -> dict[str, int]:
    """What `train` would run: jobs by rule."""
    outcome = workspace.snakemake("train", "--dry-run", *CPU)
    assert outcome.status == 0, outcome.stderr
    rows = re.findall(r"^(\w+) +(\d+)$", outcome.stdout, re.MULTILINE)
    return {rule: int(count) for rule, count in rows}


def test_the_killed_run_goes_on_and_the_finished_one_stays(
    left: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    finished, killed = run_of(left, "finished"), run_of(left, "killed")
    [saved] = (killed / "checkpoints").glob("step_*")
    step, untouched = int(saved.name[5:]), bytes_below(finished)
    kept = [line for line in lines(killed) if line["step"] <= step]
    assert left.build("train", *CPU) == {"train_run": 1, "train": 1}
    assert f"resumed at update {step} of 60" in (killed / "train.log").read_text()
    assert lines(killed)[: len(kept)] == kept
    assert json.loads((killed / "trained.json").read_text())["steps"] == 60
    assert bytes_below(finished) == untouched


def lines(run: Path) -> list[dict[str, float]]:
    """The metrics of a run; a kill may have cut the last line short."""
    whole = (run / "metrics.jsonl").read_text().rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in whole]


def test_its_runs_are_listed(left: Workspace) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spark_trainer", "runs", "--json", "--config", "config.yaml"],
        cwd=left.folder,
        env=left.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    told = {one["run"]: one for one in map(json.loads, done.stdout.splitlines())}
    finished, killed = run_of(left, "finished").name, run_of(left, "killed").name
    assert {name: one["finished"] for name, one in told.items()} == {finished: True, killed: False}
    assert told[finished]["parameters"]["max_steps"] == told[finished]["results"]["steps"] == 2
    assert told[finished]["manifest_sha256"] == told[killed]["manifest_sha256"]
    assert not done.stderr


@pytest.mark.parametrize(
    ("module", "jobs"),
    [
        ("steps/audio.py", {"audio_shard": 2, "transcript_shard": 2, "train_run": 2}),
        ("runs/configured.py", {"train_run": 2}),
    ],
)
def test_a_version_that_was_raised_would_be_seen(
    module: str, jobs: dict[str, int], left: Workspace, tmp_path: Path
) -> None:
    """Else it would say nothing that the tests above find nothing to do."""
    left.tree = source_tree(tmp_path / "tree")
    path = left.tree / "spark_trainer" / module
    text, count = re.subn(r"(?m)^(\s*VERSION\b.*= )\d+", r"\g<1>99", path.read_text())
    assert count == 1
    path.write_text(text)
    assert jobs.items() <= planned(left).items()


@pytest.mark.long
def test_a_run_goes_on_from_one_of_the_release(
    left: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    left.config["train"]["runs"] = {"longer": {"max_steps": 4, "continue_from": "finished"}}
    shutil.rmtree(run_of(left, "killed"))
    assert left.build("train", *CPU) == {"train_run": 1, "train": 1}
    assert [line["step"] for line in lines(run_of(left, "longer")) if "loss" in line] == [3, 4]
