"""The `pose` step by checkpoints of one's own, through Snakemake."""

import json
from pathlib import Path

import numpy as np
import pytest

from spark_trainer.data import manifest
from spark_trainer.system import gpu
from tests.detectors import tiny

from .conftest import REPO, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A speaker, and tiny checkpoints that find a person anywhere, as large as the picture."""
    made = Workspace(tmp_path)
    made.add("speaker", (REPO / "tests/assets/speaker.mp4").read_bytes())
    made.configure("audio", enabled=False)
    made.configure(
        "pose",
        enabled=True,
        detector="vitpose",
        person_model=str(tiny.people(tmp_path / "people", size=4.0)),
        keypoint_model=str(tiny.keypoints(tmp_path / "keypoints", 133)),
        mask_model=str(tiny.masks(tmp_path / "masks")),
        max_seconds=0.5,
        min_confidence=0.01,
        min_person_px=1,
    )
    return made


def record(workspace: Workspace) -> dict:
    path = workspace.output / workspace.place("speaker") / "pose.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.long
def test_records_and_files_by_checkpoints(workspace: Workspace) -> None:
    """Other weights make it again, another device does not; without a GPU `cuda` stops."""
    if not gpu.visible():
        outcome = workspace.snakemake("manifest")
        assert outcome.status != 0
        assert "pose.device: cuda, but no GPU: there is none here" in outcome.stderr
        assert not (workspace.output / workspace.place("speaker") / "pose.json").exists()
    workspace.configure("pose", device="cpu")
    assert workspace.build()["pose_shard"] == 1
    made = record(workspace)
    assert (made["status"], made["frames"], made["people"]) == ("ok", 8, 6)
    assert (made["detector"], made["keypoints"], made["device"]) == ("vitpose", 133, "cpu")
    assert set(made["models"]) == {"person_model", "keypoint_model", "mask_model"}
    assert {"scipy", "torch", "transformers"} < set(made["packages"])
    folder = workspace.output / workspace.place("speaker") / "pose"
    arrays = np.load(folder / "keypoints.npz")
    assert arrays["body"].shape == (8, 20, 3)
    assert arrays["left_hand"][..., 2].any(axis=1).all()
    [entry] = workspace.manifest().values()
    assert entry["meta"]["pose"]["frames"] == 8
    assert list(manifest.problems(workspace.output / "manifest_v1.jsonl")) == []
    workspace.configure("pose", device="auto")
    assert workspace.build() == {}
    tiny.keypoints(workspace.folder / "keypoints", 17)
    made_again = {"pose_shard": 1, "manifest_part": 1, "manifest_join": 1, "manifest": 1}
    assert workspace.build() == made_again
    assert set(record(workspace)["models"]) == {*made["models"], "mediapipe"}


def test_a_missing_checkpoint_stops_before_any_job(workspace: Workspace) -> None:
    workspace.configure("pose", mask_model="./models/none")
    outcome = workspace.snakemake("manifest")
    assert outcome.status != 0
    assert "pose.mask_model: no such folder: ./models/none" in outcome.stderr
    assert outcome.jobs == {}
