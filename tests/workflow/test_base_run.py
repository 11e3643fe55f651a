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
    "clip": {"num_frames": 2},
    "split": {"validation": 0.25},
    "max_length": 128,
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


def asked(manifest: Path) -> dict[str, str]:
    """Write a question about each clip, as others have them in files."""
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows = [
        {"question": "what colour?", "answer": entry["meta"]["colour"], "video": entry["id"]}
        for entry in entries
    ]
    file = manifest.with_name("questions.json")
    file.write_text(json.dumps(rows))
    each = {"each": "questions", "prompt": "{question}", "answer": "{answer}"}
    return {"questions": str(file), **each}


@pytest.mark.long
def test_a_run_begins_with_what_another_learnt(built: Workspace, tmp_path: Path) -> None:
    """One call trains both in order; another reward trains only the second, anew."""
    reward = tmp_path / "mine.py"
    reward.write_text(REWARD)
    rft = {"reward_funcs": [f"{reward}:letters"], "num_generations": 2, "max_completion_length": 4}
    manifest = squares.write(tmp_path / "squares", 12)
    built.configure(
        "train",
        model_name=str(tiny.qwen2_vl(tmp_path / "qwen")),
        manifest_path=str(manifest),
        text=asked(manifest),
        runs={"rft": {"base_run": "sft", "model_type": "rft", "rft": rft}, "sft": {}},
        **SMALL,
    )
    assert built.build("train", "--cores", "1")["train_run"] == 2
    [sft], [first] = folder_of(built, "sft"), folder_of(built, "rft")
    lineage = json.loads((first / "lineage.json").read_text())
    assert lineage["run"] == "rft"
    assert lineage["base_run"] == sft.name
    assert f"| base | the run `{sft.name}` |" in (first / "final/README.md").read_text()
    [shown] = json.loads((first / "samples/step_00000001.json").read_text())
    assert shown["prompt"] == "what colour?"
    assert shown["caption"] in squares.COLOURS
    assert [*shown["answers"][0]["parts"]] == ["letters"]
    assert len(shown["answers"]) == 2
    assert (first / "samples/step_00000001.html").is_file()
    assert (sft / "trained.json").stat().st_mtime < (first / "run.json").stat().st_mtime
    assert "train_run" not in built.build("train", "--cores", "1")
    reward.write_text(REWARD.replace("10", "9"))
    assert built.build("train", "--cores", "1")["train_run"] == 1
    assert folder_of(built, "sft") == [sft]
    assert len(folder_of(built, "rft")) == 2
