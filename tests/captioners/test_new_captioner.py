"""The page about a new captioner is true: two caption clips, in a copy of the tree."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests import ffmpeg
from tests.documented.pages import commands
from tests.documented.worked import planned, python, tree_with
from tests.families import tiny
from tests.workflow.conftest import REPO, Workspace, cut

PAGE = REPO / "docs/new-captioner.md"
BACKENDS = "spark_trainer/captioners/backends"
OWN = {f"{BACKENDS}/llava_onevision.py", f"{BACKENDS}/colours.py"}
WRONG = {
    "`import torch` at its top": "import torch\n",
    "an import of a step": "from spark_trainer.steps import frames\n",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with both captioners of the page."""
    tree, made, added = tree_with(PAGE, tmp_path_factory.mktemp("new_captioner") / "tree")
    assert made == OWN
    assert added.keys() == {"tests/captioners/recipes.py", "spark_trainer/config/caption.py"}
    assert added["spark_trainer/config/caption.py"] == 3
    return tree


def said(what: str) -> tuple[str, ...]:
    """What stands in code in the second column of a row of the page's last table."""
    text = PAGE.read_text(encoding="utf-8")
    [row] = re.findall(rf"^\| {re.escape(what)} \| (.*) \|$", text, re.MULTILINE)
    return tuple(re.findall(r"`([^`]+)`", row))


@pytest.mark.long
def test_both_caption_clips_and_adding_a_key_makes_no_other_captions_again(
    tree: Path, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path, tree)
    shutil.copytree(cut(tmp_path, ("dog",)).folder, workspace.clips)
    red = ffmpeg.drawn("color=red:size=64x64:rate=8:duration=2")
    ffmpeg.write(red.output(str(workspace.clips / "red.mp4")))
    model = tiny.llava_onevision(tmp_path / "llava")
    workspace.configure("index", shard_size=8)
    workspace.configure("audio", enabled=False)
    model_keys = {"model_name": str(model), "max_new_tokens": 6}
    workspace.configure("caption", enabled=True, device="cpu", num_workers=0)
    workspace.configure("caption", backends={"llava-onevision": model_keys})
    [line] = [line for line in commands() if "colours" in line]
    given = ("manifest", "--cores", "1", "--config", *re.findall(r"'(.*)'", line))
    done = workspace.snakemake(*given)
    assert done.status == 0, done.stderr
    assert done.jobs["caption_shard"] == 2
    first = captions(workspace)
    assert first["red"]["colours"] == "mostly red"
    assert re.fullmatch(r"mostly \w+ and \w+", first["dog"]["colours"])
    for name, both in first.items():
        path = workspace.output / workspace.place(name) / "caption/llava-onevision.json"
        record = json.loads(path.read_text())
        assert record["caption"] == both["llava-onevision"]
        assert len(record["frames"]) > 1
    before = workspace.digests("caption/llava-onevision")
    workspace.configure("caption", num_colours=3)
    done = workspace.snakemake(*given)
    assert done.jobs["caption_shard"] == 1, done.stderr
    assert captions(workspace)["dog"]["colours"].count(" and ") == 2
    assert workspace.digests("caption/llava-onevision") == before


def captions(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Clip -> captioner -> its caption, as the manifest has them."""
    lines = workspace.manifest()
    found = {}
    for name in ("dog", "red"):
        every = lines[workspace.place(name)]["meta"]["captions"]
        found[name] = {backend: one["caption"] for backend, one in every.items()}
    return found


@pytest.mark.long
def test_the_contract_holds_for_the_checkpoint(tree: Path) -> None:
    contract = ("tests/captioners/test_contract.py", "-k", "llava_onevision")
    status, printed = python(tree, "pytest", "-n", "0", "-rA", *contract)
    assert status == 0, printed
    assert "test_a_caption_is_upstreams_token_for_token[greedy-llava_onevision]" in printed


def test_the_command_fits_the_configuration_that_is_shipped(tree: Path) -> None:
    said = planned(tree, "snakemake manifest", "colours")
    assert "logs/caption/colours/" in said
    assert "logs/caption/llava-onevision/" in said
    assert "logs/caption/imagenet-tags/" not in said


@pytest.mark.parametrize("what", WRONG)
def test_the_seams_say_what_does_not_belong(tree: Path, tmp_path: Path, what: str) -> None:
    copy = shutil.copytree(tree, tmp_path / "tree")
    path = copy / BACKENDS / "colours.py"
    path.write_text(path.read_text().replace("\nMODEL_TYPES", f"{WRONG[what]}\nMODEL_TYPES", 1))
    *_, test, message = said(what)
    status, printed = python(copy, "pytest", "-n", "0", "tests/test_architecture.py", "-k", test)
    assert status == 1
    assert message in printed


def test_a_backend_in_another_folder_is_not_found(tree: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tree, tmp_path / "tree")
    (copy / BACKENDS / "colours.py").rename(copy / "spark_trainer/captioners/colours.py")
    (copy / "mine.yaml").write_text("caption: {captioner_backend: colours}\n")
    _, printed = python(copy, "spark_trainer", "validate", "--config", "mine.yaml")
    [message] = said("the file in `captioners/` itself")
    assert message in printed
