"""From an order to finished weights through `accelerate launch`, and stops before it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from spark_trainer import gpu
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
