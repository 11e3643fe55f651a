"""The page about a new step is true: its code as it stands builds clips, in a copy of the tree."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import REPO, Workspace, cut, source_tree

PAGE = REPO / "docs/new-step.md"
NAME_OR_BLOCK = re.compile(r"`([\w./]+)`|^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OWN = {
    "spark_trainer/config/sharpness.py",
    "spark_trainer/steps/sharpness.py",
    "rules/sharpness.smk",
    "tests/steps/test_sharpness.py",
}


def carry_out(page: Path, tree: Path) -> tuple[set[str], dict[str, int]]:
    """Do to a tree what a page shows; returns the files made, and file -> lines added."""
    made: set[str] = set()
    added: dict[str, int] = {}
    name = ""
    for named, kind, text in NAME_OR_BLOCK.findall(page.read_text(encoding="utf-8")):
        if named:
            name = named
        elif kind == "diff":
            added[name] = added.get(name, 0) + add(tree / name, text.splitlines(keepends=True))
        else:
            made.add(name)
            (tree / name).write_text(text, encoding="utf-8")
    return made, added


def add(path: Path, lines: list[str]) -> int:
    """Put a block's lines with a plus where its others stand; returns how many."""
    before = "".join(line[1:] for line in lines if line[0] == " ")
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, (path, before)
    after = "".join(line[1:] for line in lines)
    path.write_text(text.replace(before, after), encoding="utf-8")
    return sum(line[0] == "+" for line in lines)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the step of the page."""
    tree = source_tree(tmp_path_factory.mktemp("new_step") / "tree")
    for name in ("config", "scripts", "tests"):
        shutil.copytree(REPO / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "pyproject.toml", tree)
    made, added = carry_out(PAGE, tree)
    assert made == OWN
    assert added == {"spark_trainer/config/__init__.py": 2, "Snakefile": 1}
    return tree


def test_the_page_says_how_many_files_are_touched(tree: Path) -> None:
    """It is carried out above; without it, the numbers there are wrong."""
    said = "Four files of its own, and three lines in two others."
    assert said in PAGE.read_text(encoding="utf-8")


@pytest.mark.long
def test_the_new_step_builds_two_clips(tree: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, tree)
    shutil.copytree(cut(tmp_path, ("dog", "bunny")).folder, workspace.clips)
    workspace.configure("sharpness", enabled=True)
    workspace.configure("index", shard_size=8)
    workspace.configure("audio", enabled=False)
    rules = ("frames_shard", "sharpness_shard", "manifest_part", "manifest_join", "manifest")
    once = dict.fromkeys(rules, 1)
    assert workspace.build() == once
    said = {place: entry["meta"] for place, entry in workspace.manifest().items()}
    assert len(said) == 2
    for place, meta in said.items():
        record = json.loads((workspace.output / place / "sharpness.json").read_text())
        assert meta["sharpness"] == record["sharpness"] > 0
        assert meta["no_sharpness"] is None
    assert workspace.build() == {}
    workspace.configure("sharpness", side_px=128)
    assert workspace.build().keys() == once.keys() - {"frames_shard"}
    place = workspace.place("dog")
    (workspace.output / place / "sharpness.json").unlink()
    assert workspace.build(f"out/{place}/sharpness.json") == {"sharpness": 1}


@pytest.mark.long
def test_the_tests_of_the_page_and_of_the_seams_pass_with_it(tree: Path) -> None:
    workspace = Workspace(tree, tree)
    python = [sys.executable, "-m"]
    tests = ("tests/steps/test_sharpness.py", "tests/test_architecture.py", "tests/test_schema.py")
    for command in (["spark_trainer.config.schema", "--fix"], ["pytest", "-n", "0", *tests]):
        done = subprocess.run(
            [*python, *command],
            cwd=tree,
            env=workspace.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
