"""Which jobs follow when something is added, and which GPUs several training jobs get."""

from collections import Counter
from pathlib import Path

import pytest

from tests.workflow.conftest import REPO, Clips, Workspace, trained, without_training

from .conftest import RULES, Submitting, outcome, submitting

pytestmark = pytest.mark.slurm


def test_one_more_video(
    local: tuple[Workspace, dict[str, str]], cuts: Clips, tmp_path: Path
) -> None:
    """One job for each step of the one shard that it falls into."""
    workspace = submitting(local[0], tmp_path)
    new = workspace.add("again", cuts.content("dog", "110"))
    outcome(workspace, "manifest")
    rules = Counter(job.rule for job in workspace.submitted())
    assert rules == dict.fromkeys(RULES, 1)
    assert new in workspace.manifest()


def test_gpus_of_several_runs(local: tuple[Workspace, dict[str, str]], tmp_path: Path) -> None:
    """Two nodes of eight GPUs take three runs at once; each sees as many GPUs as it asked for."""
    workspace = submitting(local[0], tmp_path / "here", without_training(tmp_path / "tree"))
    workspace.config["train"] = {
        "model_name": str(REPO / "config/demo/blip-small"),
        "from_scratch": True,
        "text": {"answer": "{source_path}"},
        "runs": {"all": {"gpus": 8, "min_gpus": 8}, "half": {"gpus": 4}, "rest": {"gpus": 4}},
    }
    outcome(workspace, "train")
    assert all(job.facts["Partition"] == "gpu" for job in workspace.submitted())
    gpus = [job.facts["TresPerJob"] for job in workspace.submitted()]
    assert sorted(gpus) == ["gres:gpu:4", "gres:gpu:4", "gres:gpu:8"]
    found = trained(workspace)
    assert {name: (len(run.devices), run.processes) for name, run in found.items()} == {
        "all": (8, 8),
        "half": (4, 4),
        "rest": (4, 4),
    }


def test_a_share_of_a_gpu_is_a_whole_one(fresh: Submitting) -> None:
    """A cluster gives no shares. Nobody speaks in the clips, so no model looks for the GPU."""
    heard = {"backend": "faster-whisper", "whisper_model": "offline-tiny.en"}
    fresh.configure("transcript", enabled=True, device="cuda", gpu_fraction=0.5, **heard)
    fresh.configure("audio", enabled=True)
    fresh.configure("index", shard_size=8)
    outcome(fresh, "manifest")
    [job] = fresh.submitted("transcript_shard")
    assert job.facts["TresPerJob"] == "gres:gpu:1"
