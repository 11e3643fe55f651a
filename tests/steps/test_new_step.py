"""The page about a new step is true: its code as it stands builds clips, in a copy of the tree."""

import json
import shutil
from pathlib import Path

import pytest

from tests.documented.worked import python, tree_with
from tests.workflow.conftest import REPO, Workspace, cut

PAGE = REPO / "docs/new-step.md"
OWN = {
    "spark_trainer/config/sharpness.py",
    "spark_trainer/steps/sharpness.py",
    "rules/sharpness.smk",
    "tests/steps/test_sharpness.py",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the step of the page."""
    tree, made, added = tree_with(PAGE, tmp_path_factory.mktemp("new_step") / "tree")
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
    tests = (
        "tests/steps/test_sharpness.py",
        "tests/test_architecture.py",
        "tests/config/test_schema.py",
    )
    for command in (("spark_trainer.config.schema", "--fix"), ("pytest", "-n", "0", *tests)):
        status, said = python(tree, *command)
        assert status == 0, said
