"""The containers' recipes: `.ci/pins.py` sees them drift apart, and from what is here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import ROOT


def drift(tree: Path) -> str:
    """What the check says of the recipes of a tree."""
    command = [sys.executable, str(tree / ".ci/pins.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("envs/apptainer.def", "uv==", "uv==0.1.", "uv: envs/Dockerfile"),
        ("envs/Dockerfile", "FROM python:3.11-", "FROM python:3.12-", "image: envs/Dockerfile"),
        ("envs/media.yaml", "python =3.11", "python =3.12", "envs/media.yaml: expected python"),
        ("pyproject.toml", "\nall = [", "\neverything = [", "pyproject.toml has no extra all"),
    ],
    ids=["uv", "image", "conda", "extra"],
)
def test_drift_is_named(tmp_path: Path, name: str, before: str, after: str, said: str) -> None:
    for folder in (".ci", "envs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert "Dockerfile" not in drift(tmp_path)
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert before in text
    (tmp_path / name).write_text(text.replace(before, after), encoding="utf-8")
    assert said in drift(tmp_path)
