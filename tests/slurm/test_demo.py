"""The demo's clips on the test cluster: every kind of job, what each asks for, two nodes."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import REPO

from .conftest import RULES, Submitting, outcome, submitting

pytestmark = pytest.mark.slurm
OTHERS = ("audio_shard", "transcript_shard", "caption_shard", "select_shard", "train_run")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Submitting:
    """The demo's steps over its clips, and a small BLIP on them: a few updates, on no GPU."""
    workspace = Submitting(tmp_path_factory.mktemp("demo"))
    config, example = (
        yaml.safe_load((REPO / "config" / name).read_text(encoding="utf-8"))
        for name in ("config.yaml", "examples/blip_small.yaml")
    )
    shorter = {"model_name": str(REPO / "config/demo/blip-small"), "gpus": 0, "max_steps": 4}
    shorter |= {"output_dir": "runs"}
    paths = {"video_dir": str(REPO / "config/demo/clips"), "output_dir": "out"}
    workspace.config = config | paths | {"train": example["train"] | shorter}
    outcome(workspace, "all")
    return workspace


def test_the_demo(demo: Submitting) -> None:
    assert len(demo.manifest()) == 6
    assert list(demo.folder.glob("runs/default-*/final/model.safetensors"))
    rules = Counter(job.rule for job in demo.submitted())
    assert rules == dict.fromkeys([*RULES, *OTHERS], 1)


def test_what_its_jobs_ask_for(demo: Submitting) -> None:
    for job in demo.submitted():
        assert job.facts["Partition"] == "cpu"
        assert job.facts["JobName"].startswith(f"{demo.folder.name}_")
        assert job.asked["node"] == "1"
        if job.rule.endswith("_shard"):
            assert re.search(r"_b\.[0-9a-f]{16}_[0-9a-f]{16}$", job.facts["Comment"])
    (caption,) = demo.submitted("caption_shard")
    assert caption.facts["TimeLimit"] == "08:00:00"
    assert {key: caption.asked[key] for key in ("cpu", "mem")} == {"cpu": "4", "mem": "32000M"}
    (train,) = demo.submitted("train_run")
    assert "_default_" in train.facts["Comment"]


def test_two_nodes_train_one_model(demo: Submitting, tmp_path: Path) -> None:
    """A process on each, in one group: the same samples an update, so the same losses."""
    workspace = submitting(demo, tmp_path)
    workspace.configure("train", runs={"default": {}, "pair": {"nodes": 2}})
    outcome(workspace, "train")
    (job,) = workspace.submitted("train_run")
    assert job.asked["node"] == "2"
    assert "training on 2 × cpu" in workspace.logs()
    one, pair = (next(workspace.folder.glob(f"runs/{run}-*")) for run in ("default", "pair"))
    assert len(list((pair / "nodes").iterdir())) == 2
    assert _losses(pair) == pytest.approx(_losses(one), rel=1e-3)


def _losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [found["loss"] for found in map(json.loads, lines) if "loss" in found]
