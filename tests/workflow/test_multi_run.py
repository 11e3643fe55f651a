"""Several runs share the GPUs: by Snakemake's count in one call, by leases between calls."""

import itertools
import subprocess
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.system import gpu
from spark_trainer.system.gpu import registry

from .conftest import REPO, Outcome, Trained, Workspace, trained, without_training

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(gpu.visible()), reason="its devices are made up"),
]


@pytest.fixture
def training(
    tmp_path: Path, first: tuple[Workspace, Outcome], monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A built manifest, and a training loop that only notes its devices."""
    workspace = first[0].copy(tmp_path / "here", without_training(tmp_path / "tree"))
    workspace.config["train"] = {
        "model_name": str(REPO / "config/demo/blip-small"),
        "from_scratch": True,
        "text": {"answer": "{source_path}"},
        "use_accelerate": False,
    }
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    return workspace


def runs(workspace: Workspace, *names: str) -> None:
    """Configure runs that differ in their seed."""
    workspace.configure("train", runs={name: {"seed": i} for i, name in enumerate(names)})


def overlapping(found: list[Trained]) -> list[tuple[Trained, Trained]]:
    """Pairs of runs that trained at the same time."""
    pairs = itertools.combinations(found, 2)
    return [(a, b) for a, b in pairs if a.begin < b.end and b.begin < a.end]


def test_one_call(training: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs over two GPUs: two at once, each on a GPU of its own."""
    monkeypatch.setenv("TOGETHER", "2")
    runs(training, "a", "b", "c")
    assert training.build("train", "--cores", "16", "--resources", "gpu=2")["train_run"] == 3
    found = list(trained(training).values())
    assert {run.devices for run in found} == {("5",), ("7",)}
    together = overlapping(found)
    assert together
    assert all(a.devices != b.devices for a, b in together)


def test_two_calls(training: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told that both GPUs are its own; leases keep their runs apart."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the leases are
    assert registry.FOLDER_VARIABLE not in training.environment()
    other = training.copy(tmp_path / "there")
    runs(training, "a", "b")
    runs(other, "c")
    arguments = ("train", "--cores", "16", "--resources", "gpu=2")
    started = [_start(workspace, *arguments) for workspace in (training, other)]
    for call in started:
        _, errors = call.communicate()
        assert call.returncode == 0, errors
    found = [*trained(training).values(), *trained(other).values()]
    assert len(found) == 3
    assert all(a.devices != b.devices for a, b in overlapping(found))


def _start(workspace: Workspace, *arguments: str) -> Any:
    return subprocess.Popen(
        workspace.command(*arguments),
        cwd=workspace.folder,
        env=workspace.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
