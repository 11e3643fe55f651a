"""From an order to finished weights through `accelerate launch`, and stops before it."""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_trainer import gpu
from spark_trainer.gpu import registry
from spark_trainer.train import launch
from spark_trainer.train.launch import LaunchError

no_gpu = pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")


@no_gpu
def test_trains_through_accelerate_and_records_its_lineage(make: Any, manifest: Path) -> None:
    made = make(max_steps=2)
    launch.fit(made, manifest, granted_gpus=8, threads=2)
    assert (made.folder / "trained.json").exists()
    lineage = json.loads((made.folder / "lineage.json").read_text())
    assert lineage["manifest_sha256"] == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert len(lineage["videos"]) == 12
    assert lineage["packages"]["transformers"]
    assert lineage["devices"] == []


@no_gpu
@pytest.mark.long
def test_devices_stay_taken_when_the_launch_is_killed(
    make: Any, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it started still holds them, here until it finds that they are no GPUs."""
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "leases"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    made = make(allow_cpu=False, min_gpus=1)
    spawn = multiprocessing.get_context("spawn")
    launching = spawn.Process(target=launch.fit, args=(made, manifest, 1, 1))
    launching.start()
    _until(lambda: (made.folder / "run.json").exists())
    time.sleep(1)
    launching.kill()
    launching.join()
    (holder,) = gpu.holders()
    assert (holder.device, holder.fraction, holder.what) == ("5", 1, "train run")
    assert holder.pid == launching.pid
    assert json.loads((made.folder / "lineage.json").read_text())["devices"] == ["5"]
    _until(lambda: not gpu.holders())


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


@no_gpu
@pytest.mark.parametrize(
    "settings", [{"allow_cpu": False}, {"allow_cpu": True, "min_gpus": 2}], ids=str
)
def test_too_few_gpus_stop_before_any_work(
    make: Any, manifest: Path, settings: dict[str, Any]
) -> None:
    made = make(**settings)
    with pytest.raises(LaunchError, match=r"0 GPUs present and 8 granted.*train\.allow_cpu"):
        launch.fit(made, manifest, granted_gpus=8, threads=1)


def test_an_empty_manifest_stops(make: Any, manifest: Path) -> None:
    manifest.write_text("")
    with pytest.raises(LaunchError, match="no usable video"):
        launch.fit(make(), manifest, granted_gpus=0, threads=1)
