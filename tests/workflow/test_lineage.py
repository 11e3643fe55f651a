"""Three runs, each from the last, and a clip replaced between: who saw what is told exactly."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from prov.model import ProvDerivation, ProvDocument, ProvUsage

from tests.families import tiny

from .conftest import REPO, Clips, Workspace, without_training

pytestmark = pytest.mark.long

SMALL: dict[str, Any] = {
    "text": {"answer": "{source_path}"},
    "split": {"validation": 0, "validation_paths": ["d*"]},
    "allow_cpu": True,
    "min_gpus": 0,
    "gpus": 0,
}


def train(workspace: Workspace, name: str, **settings: Any) -> str:
    """Train a run beside those that are configured already; returns the name of its folder."""
    workspace.config["train"]["runs"][name] = settings
    assert workspace.build("train")["train_run"] == 1
    [run] = workspace.folder.glob(f"runs/{name}-????????")
    tiny.blip(run / "final")
    return run.name


def lineage(workspace: Workspace, what: str, form: str = "--json") -> str:
    done = workspace.call("lineage", what, form)
    assert done.returncode == 0, done.stderr
    return done.stdout


def short(names: dict[str, Any]) -> dict[str, Any]:
    return {name[:-9]: said for name, said in names.items()}


def test_a_chain_of_three(built: Workspace, clips: Clips, tmp_path: Path) -> None:
    workspace = built.copy(tmp_path / "here", without_training(tmp_path / "tree"))
    model = str(REPO / "config/demo/blip-small")
    workspace.configure("train", model_name=model, from_scratch=True, runs={}, **SMALL)
    first = train(workspace, "first")
    old, kept, held = (workspace.place(name)[3:] for name in ("cup", "bunny", "dog"))
    new = workspace.add("cup", clips.content("bunny", "011"))[3:]
    del workspace.config["train"]["runs"]["first"]
    (workspace.folder / "linked").symlink_to(f"runs/{first}/final")
    begin = {"model_name": "linked", "from_scratch": False}
    child = train(workspace, "child", **begin)
    grand = train(workspace, "grand", base_run="child", from_scratch=False)

    chain = [
        {"later": grand, "how": "begins with the weights of", "earlier": child},
        {"later": child, "how": "begins with the weights of", "earlier": first},
    ]
    said = {name: json.loads(lineage(workspace, name)) for name in (first, child, grand)}
    assert [said[grand]["before"], said[grand]["after"]] == [chain, []]
    assert [said[child]["before"], said[child]["after"]] == [chain[1:], chain[:1]]
    assert [said[first]["before"], said[first]["after"]] == [[], chain[::-1]]
    assert all(one["videos"] == {"train": 2, "validation": 1} for one in said.values())
    made_by = {step: one["settings"]["enabled"] for step, one in said[grand]["made_by"].items()}
    assert made_by == {"frames": True, "audio": True}
    assert said[child]["manifest_sha256"] == said[grand]["manifest_sha256"]
    every = ("first", "child", "grand")
    saw: dict[str, tuple[dict[str, str], set[str]]] = {
        old: ({"first": "train"}, {"child", "grand"}),
        new: ({"child": "train", "grand": "train"}, set()),
        kept: (dict.fromkeys(every, "train"), set()),
        held: (dict.fromkeys(every, "validation"), set()),
    }
    for video, (runs, through) in saw.items():
        one = json.loads(lineage(workspace, video))
        assert (short(one["runs"]), short(one["through"]).keys()) == (runs, through)

    document = ProvDocument.deserialize(content=lineage(workspace, grand, "--prov"), format="json")
    document.unified()  # which raises where a constraint of PROV doesn't hold
    derived = [tuple(map(str, one.args[:2])) for one in document.get_records(ProvDerivation)]
    assert derived == [(f"model:{one['later']}", f"model:{one['earlier']}") for one in chain]
    document = ProvDocument.deserialize(content=lineage(workspace, old, "--prov"), format="json")
    document.unified()
    used = [tuple(map(str, one.args[:2])) for one in document.get_records(ProvUsage)]
    assert used == [(f"run:{first}", f"video:{old}")]

    shutil.rmtree(workspace.folder / "runs" / first)
    digest = said[grand]["manifest_sha256"]
    for a, b in ((first, grand), (said[first]["manifest_sha256"][:8], digest[:8])):
        told = json.loads(workspace.call("manifest", "diff", a, b, "--json").stdout)
        assert [[name[:12] for name in told[key]] for key in ("removed", "added")] == [
            [old[:12]],
            [new[:12]],
        ]
        assert (told["same"], told["b"]) == (2, digest)
    listed = json.loads(workspace.call("manifest", "list", "--json").stdout)
    assert {tuple(one["runs"]) for one in listed} == {(first,), (child, grand)}
    assert "past manifests" in workspace.call("gc", "--yes").stdout
    [left] = json.loads(workspace.call("manifest", "list", "--json").stdout)
    assert left["sha256"] == digest
