"""A run that can't fit says so before its weights are loaded."""

import logging
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.errors import UserError
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun, RunSpec
from spark_trainer.system import gpu
from spark_trainer.system.gpu import driver, registry
from spark_trainer.train import launch, memory_advice, memory_check, memory_plan, processes
from spark_trainer.train.memory_pass import Data
from spark_trainer.train.topology import Topology

from .conftest import write_run

MIB = 2**20
NVIDIA_SMI = """#!/bin/sh
case "$1" in
-L) echo "GPU 0: Made up (UUID: GPU-0)" ;;
*) echo "0, Made up, {mib}, 0, 0, 580.1, GPU-0" ;;
esac
"""


@pytest.fixture
def without_weights(checkpoint: Path, tmp_path: Path) -> Any:
    """BLIP's checkpoint, of which only the configuration can be read."""
    weights = checkpoint / "model.safetensors"
    hidden = weights.rename(tmp_path / "hidden")
    yield checkpoint
    hidden.rename(weights)


@pytest.fixture
def card(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU of 8 MiB, or of as many as are asked for, as the driver tells it."""
    mib = getattr(request, "param", 8)
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(NVIDIA_SMI.format(mib=mib))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "leases"))
    monkeypatch.delenv(driver.VISIBLE_VARIABLE, raising=False)
    assert gpu.memory_bytes(["0"]) == mib * MIB


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The programs of runs whose processes are not really started, but are taken for finished."""
    programs = []

    def start(program: list[str], *_: Any) -> processes.Ending:
        programs.append(program)
        RunFolder(Path(program[-1])).summary.touch()
        return processes.Ending(0, "", 0)

    monkeypatch.setattr(processes, "start", start)
    return programs


def fit(spec: RunSpec) -> None:
    """Train a run on the GPU of `card`."""
    launch.fit(spec, Path(spec.settings.manifest_path or ""), granted_gpus=1, threads=1)


def test_a_launch_that_cannot_fit_stops_before_it_loads(
    make: Any, without_weights: Path, card: None
) -> None:
    made = make(model_name=str(without_weights), batch_size=8, allow_cpu=False, min_gpus=1)
    with pytest.raises(UserError, match=r"which has 0\.0; it would take 0\.0 with train: ") as told:
        fit(made)
    assert "{batch_size: 1, global_batch_size: 8" in str(told.value)
    assert str(told.value).endswith("train.check_memory: false starts it all the same")


def test_a_launch_may_try_all_the_same(
    make: Any,
    without_weights: Path,
    card: None,
    caplog: pytest.LogCaptureFixture,
    started: list[list[str]],
) -> None:
    with caplog.at_level(logging.WARNING):
        fit(make(model_name=str(without_weights), batch_size=8, check_memory=False))
    assert started
    assert "it starts because of train.check_memory: false" in caplog.text


@pytest.mark.parametrize("card", [34], indirect=True)
def test_what_is_recomputed_is_chosen_for_the_gpu(
    make: Any,
    without_weights: Path,
    card: None,
    caplog: pytest.LogCaptureFixture,
    started: list[list[str]],
) -> None:
    settings = {"model_name": str(without_weights), "allow_cpu": False, "min_gpus": 1}
    made = make(batch_size=64, gradient_checkpointing="auto", **settings)
    with caplog.at_level(logging.INFO):
        fit(made)
    assert started
    assert LaunchedRun.read(made.folder).settings.gradient_checkpointing == "attention"
    assert "train.gradient_checkpointing: attention, chosen for GPUs of 0.0 GiB" in caplog.text
    tried = [line.split()[1] for line in caplog.text.splitlines() if line.startswith("gradient_")]
    assert tried == ["selective", "attention"]


def test_everything_is_recomputed_where_no_memory_is_known(
    make: Any, caplog: pytest.LogCaptureFixture, started: list[list[str]]
) -> None:
    made = make(gradient_checkpointing="auto")
    fit(made)
    assert started
    assert "auto is true, the memory of a GPU is not known here" in caplog.text
    assert LaunchedRun.read(made.folder).settings.gradient_checkpointing is True


@pytest.mark.parametrize("memory", [None, 2**30])
def test_what_fits_or_nobody_knows_is_told(
    make: Any, without_weights: Path, memory: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = make(model_name=str(without_weights))
    run = write_run(spec)
    assert memory_check.main([str(run), *([] if memory is None else [str(memory)])]) == 0
    heads, values = (line.split() for line in capsys.readouterr().out.splitlines())
    assert heads[-2:] == ["peak", "host"]
    assert values[0] == spec.name


@pytest.mark.parametrize(
    ("settings", "margin"), [({}, 0.05), ({"fsdp": True}, 0.15), ({"compile": True}, 0.05)]
)
def test_nothing_is_refused_within_the_margin(
    settings: dict[str, bool],
    margin: float,
    make: Any,
    manifest: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = make(**settings)
    run = write_run(spec)
    peak = planner(manifest).plan(spec.settings).peak
    assert memory_check.main([str(run), str(int(peak / (0.99 + margin)))]) == 0
    assert "may be too much" in capsys.readouterr().out
    memory = str(int(peak / (1.01 + margin)))
    assert memory_check.main([str(run), memory]) == memory_check.TOO_LARGE


def planner(manifest: Path, processes: int = 1) -> memory_plan.Planner:
    """What plans runs over the samples of a manifest."""
    return memory_plan.Planner(Topology(1, processes, "cuda"), Data(manifest, manifest.parent))


def test_advice_keeps_results_where_it_can(make: Any, manifest: Path) -> None:
    run = make(batch_size=1, gpus=8).settings
    plans, several = planner(manifest), planner(manifest, 8)
    peak = plans.plan(run).peak
    told = memory_advice.advice(run, plans, peak * 0.99)
    assert "with train: {gradient_checkpointing: attention}" in told
    told = memory_advice.advice(run, several, several.plan(run).peak * 0.4)
    assert "fsdp: true" in told
    assert "finetune: lora" in told


def test_a_run_that_never_fits_says_what_was_tried(make: Any, manifest: Path) -> None:
    told = memory_advice.advice(make().settings, planner(manifest), 1)
    assert "gradient_checkpointing" in told
    assert "larger GPUs" in told
