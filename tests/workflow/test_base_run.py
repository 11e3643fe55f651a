"""One graph from supervised training to learning from rewards, by the real Snakemake."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.families import tiny
from tests.methods import squares

from .conftest import Workspace

REWARD = """
def letters(completions):
    return [len(set(text)) / 10 for text in completions]
"""
SMALL: dict[str, Any] = {
    "text": {"prompt": "what colour is the square?"},
    "clip": {"num_frames": 2},
    "split": {"validation": 0.25},
    "max_length": 64,
    "max_steps": 1,
    "batch_size": 4,
    "global_batch_size": 4,
    "num_samples": 1,
    "max_new_tokens": 4,
    "num_workers": 0,
    "min_gpus": 0,
    "allow_cpu": True,
}


def folder_of(workspace: Workspace, run: str) -> list[Path]:
    return sorted(workspace.folder.glob(f"runs/{run}-????????"))


@pytest.mark.long
def test_a_run_begins_with_what_another_learnt(built: Workspace, tmp_path: Path) -> None:
    """One call trains both in order; another reward trains only the second, anew."""
    reward = tmp_path / "mine.py"
    reward.write_text(REWARD)
    rft = {"reward_funcs": [f"{reward}:letters"], "num_generations": 2, "max_completion_length": 4}
    built.configure(
        "train",
        model_name=str(tiny.qwen2_vl(tmp_path / "qwen")),
        manifest_path=str(squares.write(tmp_path / "squares", 12)),
        runs={"rft": {"base_run": "sft", "model_type": "rft", "rft": rft}, "sft": {}},
        **SMALL,
    )
    assert built.build("train", "--cores", "1")["train_run"] == 2
    [sft], [first] = folder_of(built, "sft"), folder_of(built, "rft")
    lineage = json.loads((first / "lineage.json").read_text())
    assert lineage["run"] == "rft"
    assert lineage["base_run"] == sft.name
    assert f"| base | the run `{sft.name}` |" in (first / "final/README.md").read_text()
    assert (sft / "trained.json").stat().st_mtime < (first / "run.json").stat().st_mtime
    assert "train_run" not in built.build("train", "--cores", "1")
    reward.write_text(REWARD.replace("10", "9"))
    assert built.build("train", "--cores", "1")["train_run"] == 1
    assert folder_of(built, "sft") == [sft]
    assert len(folder_of(built, "rft")) == 2
