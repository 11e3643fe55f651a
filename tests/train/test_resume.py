"""`snakemake train` after a kill: the same command goes on, and gives what it would have given."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from spark_trainer import gpu

from .conftest import metrics

ROOT = Path(__file__).resolve().parent.parent.parent


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the workflow on a folder of its own."""
    environment = {key: value for key, value in os.environ.items() if "SPARK_TRAINER" not in key}
    command = [sys.executable, "-m", "snakemake", *arguments]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
    return subprocess.Popen(
        [*command, "--cores", "2"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def configure(folder: Path, name: str, settings: dict[str, Any]) -> None:
    """One video to index, and one run on a manifest that is there."""
    off = {"enabled": False}
    value = {"video_dir": "videos", "transcript": off, "caption": off}
    value["train"] = settings | {"output_dir": "runs", "runs": {name: {}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(value))


@pytest.mark.long
@pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
def test_the_same_command_goes_on_bit_by_bit(make: Any, tmp_path: Path) -> None:
    settings = make(max_steps=20, eval_steps=5).settings.model_dump(mode="json")
    folder = tmp_path / "project"
    (folder / "videos").mkdir(parents=True)
    shutil.copy(ROOT / "config/demo/clips/dog.mp4", folder / "videos")
    configure(folder, "calm", settings)
    assert snakemake(folder, "train").wait() == 0
    configure(folder, "killed", settings)
    process = snakemake(folder, "train")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(folder.glob("runs/killed-*/checkpoints/step_*")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    [run] = folder.glob("runs/killed-*")
    assert not (run / "trained.json").exists()
    assert snakemake(folder, "--unlock").wait() == 0
    assert snakemake(folder, "train").wait() == 0
    [calm] = folder.glob("runs/calm-*")
    assert metrics(run) == metrics(calm)
    assert "resumed" in (run / "train.log").read_text()


@pytest.mark.long
@pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_snakemake_passes_signals_on(number: int, make: Any, tmp_path: Path) -> None:
    """To Snakemake alone, as `kill` or a service manager sends them."""
    keys = {"max_steps": 10**6, "eval_steps": 10**6, "checkpoint_steps": 10**6}
    folder = tmp_path / "project"
    (folder / "videos").mkdir(parents=True)
    shutil.copy(ROOT / "config/demo/clips/dog.mp4", folder / "videos")
    configure(folder, "stopped", make(**keys).settings.model_dump(mode="json"))
    process = snakemake(folder, "train")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not any(
        '"loss"' in path.read_text() for path in folder.glob("runs/stopped-*/metrics.jsonl")
    ):
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait(60) != 0
    [run] = folder.glob("runs/stopped-*")
    [saved] = (run / "checkpoints").iterdir()
    assert f"stopped at update {int(saved.name[5:])} of" in (run / "train.log").read_text()
    assert (run / "train.log").read_text().count("training on") == 1
