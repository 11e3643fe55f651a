"""The page about a new step is true: its code as it stands builds clips, in a copy of the tree."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.documented.worked import planned, python, touched, tree_with
from tests.workflow.conftest import REPO, Workspace, cut

PAGE = REPO / "docs/new-step.md"
OWN = {
    "spark_trainer/config/sharpness.py",
    "spark_trainer/steps/sharpness.py",
    "rules/sharpness.smk",
    "tests/steps/test_sharpness.py",
}


SECTION, STEP = "spark_trainer/config/sharpness.py", "spark_trainer/steps/sharpness.py"
# What goes wrong -> the file, what is right there, and what is wrong.
PLANNED = {
    "`UPSTREAM` with a step that is none, or that stands later": (SECTION, '"frames"', '"frmes"'),
    "a key that another step has": (SECTION, '"sharpness": "n', '"duration": "n'),
    "no `STEP` in the module": (STEP, "STEP = SharpnessStep", ""),
}
LINE = """
from spark_trainer.data.layout import Video
from spark_trainer.steps import manifest, sharpness
manifest.line(Video("a" * 64, "a"), {"sharpness": sharpness.SharpnessRecord(sharpness=1.0)})
"""
BUILT = {
    "a key in `manifest_fields` alone": (STEP, 'return {"s', 'return {"blur": 1.0, "s'),
    "a key in `MANIFEST` alone": (SECTION, '= {"s', '= {"blur": "number", "s'),
    "a fact of another type": (STEP, "record.sharpness,", '"word",'),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the step of the page."""
    tree, made, added = tree_with(PAGE, tmp_path_factory.mktemp("new_step") / "tree")
    assert made == OWN
    assert added == {"spark_trainer/config/__init__.py": 2, "Snakefile": 1}
    return tree


def test_the_page_says_how_many_files_are_touched(tree: Path) -> None:
    """Those that the page shows or its first command writes, and the two that it asks for last."""
    assert python(tree, "spark_trainer.config.schema", "--fix")[0] == 0
    written = {"config/default.yaml", "config/schema.json"}
    assert touched(tree) == OWN | written | {"spark_trainer/config/__init__.py", "Snakefile"}
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    said = "Ten files: four of its own, three lines in two others, two that a command writes"
    assert f"{said} (`config/default.yaml`, `config/schema.json`), and a line each in" in text
    assert "Last, a line in [config.md](config.md) and in `CHANGELOG.md`." in text


def test_the_command_fits_the_configuration_that_is_shipped(tree: Path) -> None:
    assert "sharpness_shard" in planned(tree, "snakemake manifest", "sharpness")


def write_wrong(tree: Path, name: str, right: str, wrong: str) -> None:
    """Write what is wrong into a file of a tree."""
    text = (tree / name).read_text()
    assert text.count(right) == 1
    (tree / name).write_text(text.replace(right, wrong))


def told(what: str) -> str:
    """Return the message in a row of the page's last table."""
    text = PAGE.read_text(encoding="utf-8")
    [row] = re.findall(rf"^\| {re.escape(what)} \| `(.*)` \|$", text, re.MULTILINE)
    return str(row)


@pytest.mark.parametrize("what", PLANNED)
def test_what_can_be_seen_before_a_build_is_told_then(
    tree: Path, tmp_path: Path, what: str
) -> None:
    copy = shutil.copytree(tree, tmp_path / "tree")
    write_wrong(copy, *PLANNED[what])
    status, said = python(copy, "snakemake", "manifest", "-n", "--cores", "1")
    assert status == 1
    assert f"spark_trainer: {told(what)}\n" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("what", BUILT)
def test_what_a_line_of_the_manifest_can_not_hold_is_told(
    tree: Path, tmp_path: Path, what: str
) -> None:
    copy = shutil.copytree(tree, tmp_path / "tree")
    write_wrong(copy, *BUILT[what])
    (copy / "line.py").write_text(LINE)
    _, said = python(copy, "line")
    assert f"UserError: {told(what)}\n" in said


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
