"""What waits for a GPU runs here too, with tiny sizes, and goes on where it was cut off."""

import json
import os
import subprocess
import sys
from pathlib import Path

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
