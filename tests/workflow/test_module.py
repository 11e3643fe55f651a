"""The workflow as a module of another one, as snakedeploy writes it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documented.pages import python_block
from tests.workflow.conftest import REPO, Clips


@pytest.mark.long
def test_as_a_module(tmp_path: Path, clips: Clips) -> None:
    """The documented lines, with the path of this tree for the address of a repository."""
    shown = python_block("command.md", "module spark_trainer:")
    address = 'github("<owner>/spark-trainer", path="Snakefile", tag="v0.1.0")'
    assert address in shown
    (tmp_path / "workflow").mkdir()
    text = shown.replace(address, f'"{REPO / "Snakefile"}"')
    (tmp_path / "workflow/Snakefile").write_text(text)
    (tmp_path / "config").mkdir()
    off = "transcript: {enabled: false}\ncaption: {enabled: false}\n"
    (tmp_path / "config/config.yaml").write_text(f"video_dir: {clips.folder}\n{off}")
    profile = ("--workflow-profile", str(REPO / "profiles/default"))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *profile],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "data/processed/manifest_v1.jsonl").read_text().splitlines()
    assert (tmp_path / "videos.txt").read_text() == f"{len(lines)}\n"
    assert {json.loads(line)["meta"]["source_path"] for line in lines} >= {"dog.mp4"}
    assert "manifest  data/processed/manifest_v1.jsonl" in done.stderr  # of the module's onsuccess
