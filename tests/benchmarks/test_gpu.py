"""What waits for a GPU runs here too, with tiny sizes, and goes on where it was cut off."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PARTS = ("qwen2-vl-2b, LoRA, image", "whisper large-v3, encoder")


def dry(root: Path, *options: str) -> str:
    command = [sys.executable, "benchmarks/gpu.py", "--dry", *options]
    variables = os.environ | {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_parts_are_measured_once(root: Path, tmp_path: Path) -> None:
    """A part that failed, or was of another commit, is tried again; one that is there isn't."""
    out = tmp_path / "gpu.json"
    there = {"step_s": 1.5, "commit": "c0de"}
    out.write_text(json.dumps({"parts": {PARTS[1]: there, PARTS[0]: {"failed": "once"}}}))
    said = dry(root, "--only", *PARTS, "--out", str(out), "--commit", "c0de")
    assert f"{PARTS[0]}: done" in said
    assert f"{PARTS[1]}: there already" in said
    parts = json.loads(out.read_text())["parts"]
    assert parts[PARTS[1]] == there
    found = parts[PARTS[0]]
    assert found["commit"] == "c0de"
    assert found["step_s"] > 0
    assert found["mfu"] > 0
    assert 0 <= found["data_wait_share"] < 1
    [line] = [line for line in said.splitlines() if line.startswith("svd")]
    assert "not measured" in line


def call(monkeypatch: pytest.MonkeyPatch, root: Path, *options: str) -> Any:
    """What the command ends with, in this process."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    import gpu

    monkeypatch.setattr(sys, "argv", ["gpu.py", *options])
    try:
        return gpu.main()
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize("content", [None, "", '{"parts"', "[]"])
def test_a_file_that_cannot_be_written_ends_it_before_it_measures(
    content: str | None, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it can't be gone on from; without content it is a folder."""
    out = tmp_path / "gpu.json"
    if content is None:
        out.mkdir()
    else:
        out.write_text(content)
    for way in ("--dry", "--estimate"):
        said = call(monkeypatch, root, way, "--only", PARTS[0], "--out", str(out))
        assert str(said).startswith("--out: ")
        assert str(out) in str(said)


def test_an_estimate_leaves_what_is_said_of_the_machine(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gpu.json"
    there = {"machine": {"gpus": ["H200"]}, "parts": {PARTS[1]: {"step_s": 1.5}}}
    out.write_text(json.dumps(there))
    said = call(monkeypatch, root, "--estimate", "--only", PARTS[1], "--out", str(out))
    assert "estimated are qwen2-vl-2b, LoRA, image" in str(said)
    import gpu_estimate

    monkeypatch.setattr(gpu_estimate, "rows", lambda names: [])  # each takes a minute
    assert call(monkeypatch, root, "--estimate", "--out", str(out)) == 0
    assert json.loads(out.read_text()) == there | {"estimate": []}
