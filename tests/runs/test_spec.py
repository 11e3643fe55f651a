"""What a run's files hold, and that files of the first release are still read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import Run
from spark_trainer.data.layout import Layout
from spark_trainer.runs import spec
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun, RunSpec

# As version 0.1.0 wrote it, but for the settings, of which it wrote all.
RUN_FILE = {
    "continued": None,
    "data_root": "data/processed",
    "device": "cpu",
    "encoded": "data/processed/encoded/0f1e2d3c4b5a6978",
    "name": "slow",
    "nodes": 2,
    "origin": {"data": "00112233", "weights": "44556677"},
    "processes": 16,
    "seal": "1a2b3c4d",
    "settings": {"learning_rate": 0.5},
    "versions": {"frames": "0123456789abcdef", "pose": "fedcba9876543210"},
}


def test_a_spec_survives_its_file(make: Any, tmp_path: Path) -> None:
    made = make()
    built = replace(
        made, index=Path("i.json"), manifest_digest=None, step_fingerprints={"frames": "0"}
    )
    going_on = replace(made, base=RunFolder(Path("runs/slow-1a2b3c4d")))
    for one in (made, built, going_on):
        assert RunSpec.read(one.write(Layout(tmp_path))) == one


def test_a_run_of_the_first_release_is_read_and_written_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.run_file.write_text(json.dumps(RUN_FILE))
    launched = LaunchedRun.read(folder)
    assert launched == LaunchedRun(
        name="slow",
        run_id="1a2b3c4d",
        settings=Run(learning_rate=0.5),
        data_root=Path("data/processed"),
        encoded=Path("data/processed/encoded/0f1e2d3c4b5a6978"),
        step_fingerprints={"frames": "0123456789abcdef", "pose": "fedcba9876543210"},
        origin={"data": "00112233", "weights": "44556677"},
        nodes=2,
        processes=16,
        device="cpu",
    )
    assert launched.processes_per_node == 8
    launched.write(folder)
    settings = Run(learning_rate=0.5).model_dump(mode="json")
    assert json.loads(folder.run_file.read_text()) == RUN_FILE | {"settings": settings}


def test_a_run_that_told_wandb_goes_on_to_tell_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for project, said in (("mine", ("wandb",)), (None, ())):
        settings = {"learning_rate": 0.5, "wandb_project": project}
        folder.run_file.write_text(json.dumps(RUN_FILE | {"settings": settings}))
        read = LaunchedRun.read(folder).settings
        assert read.trackers == said
        assert read.tracker_project == (project or "spark-trainer")
        assert read.results() == Run(learning_rate=0.5).results()


def test_a_launched_run_is_its_spec_on_some_processes(make: Any, tmp_path: Path) -> None:
    made = replace(make(), base=RunFolder(Path("runs/slow-1a2b3c4d")))
    launched = LaunchedRun.of(made, 1, 4, "cuda", {"zero_optimization": {"stage": 2}})
    assert (launched.run_id, launched.settings) == (made.run_id, made.settings)
    assert launched.continued_from == "slow-1a2b3c4d"
    launched.write(RunFolder(tmp_path))
    assert LaunchedRun.read(RunFolder(tmp_path)) == launched


def test_settings_of_another_version_can_be_looked_at_but_not_trained_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    settings = {"learning_rate": 0.5, "key_of_tomorrow": 1}
    folder.run_file.write_text(json.dumps(RUN_FILE | {"settings": settings}))
    assert spec.settings(folder) == settings
    with pytest.raises(ValueError, match="key_of_tomorrow"):
        LaunchedRun.read(folder)
