"""Data sets for other tools are made again exactly when the manifest or their settings change."""

import json
import shutil
from pathlib import Path

import pytest

from tests.exports.conftest import contents

from .conftest import Workspace
from .test_labels import CAPTIONS, labelled, write


def made(workspace: Workspace, *words: str) -> int:
    """How many exports a call makes."""
    return workspace.build("export", *words).get("export_one", 0)


def asking(workspace: Workspace) -> Workspace:
    split = {"validation": 0}
    exports = {"talk": {"to": "llava", "split": split}, "words": {"to": "srt", "split": split}}
    workspace.configure("exports", **exports)
    return labelled(workspace)


def said(workspace: Workspace) -> dict[str, str]:
    """File that a row leads to -> what it answers."""
    folder = workspace.folder / "exports/talk"
    rows = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    return {
        Path((folder / row["video"]).readlink()).name: row["conversations"][1]["value"]
        for row in rows
    }


def test_built_told_and_made_by_a_command(fresh: Workspace) -> None:
    """The command makes the same bytes of the manifest that is there."""
    workspace = asking(fresh)
    outcome = workspace.snakemake("export")
    assert outcome.status == 0, outcome.stderr
    assert outcome.jobs["export_one"] == 2
    assert "exports/talk: train 2\n  left out: without caption: 1 (bunny.mp4)" in outcome.stderr
    assert said(workspace) == {"dog.mp4": "A white dog.", "cup.mp4": "A cup."}
    folder = workspace.folder / "exports/talk"
    first = dict(contents(folder))
    shutil.rmtree(folder)
    words = ("export", "--to", "llava", "--option", "split.validation=0", "--out", "exports/talk")
    done = workspace.call(*words)
    assert done.returncode == 0, done.stderr
    assert dict(contents(folder)) == first
    assert "exports/talk: train 2 (as it was)" in workspace.call("export", "talk").stderr
    assert made(workspace) == 0


@pytest.mark.long
def test_made_again_when_due(fresh: Workspace) -> None:
    workspace = asking(fresh)
    assert made(workspace) == 2
    assert made(workspace) == 0
    write(workspace, CAPTIONS | {"dog.mp4": "The white dog."})
    told = workspace.call("plan", "export").stdout
    assert "then the manifest\nexport talk\nexport words\n" in told
    assert made(workspace) == 2
    assert said(workspace)["dog.mp4"] == "The white dog."
    workspace.config["exports"]["words"]["each_word"] = True
    assert made(workspace) == 1
    assert made(workspace) == 0
    (workspace.folder / "exports/talk/train.json").unlink()
    assert made(workspace) == 1
    (workspace.folder / "exports/words/mine.txt").write_text("mine")
    write(workspace, CAPTIONS)
    outcome = workspace.snakemake("export", "--keep-going")
    assert outcome.status == 1
    assert "exports/words holds 1 files that no export wrote: mine.txt" in outcome.stderr
    assert (workspace.folder / "exports/words/mine.txt").read_text() == "mine"
    assert said(workspace)["dog.mp4"] == "A white dog."
    gone = workspace.call("forget", "dog.mp4", "--dry-run")
    assert f"  {workspace.folder}/exports/talk\n" in gone.stdout
    (workspace.folder / "exports/words/mine.txt").unlink()
    assert made(workspace) == 1
    assert workspace.call("gc", "--yes").returncode == 0
    assert len([*workspace.output.glob(".spark/**/export/*/*.json")]) == 2  # one for each
    assert made(workspace) == 0
