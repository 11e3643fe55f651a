"""What users' files say of videos reaches the next build, which re-does exactly what reads it."""

import json
from typing import Any

import pytest

from .conftest import Workspace
from .test_plan import holds, plan, reasons

CAPTIONS = {"dog.mp4": "A white dog.", "cup": "A cup.", "nowhere.mp4": "Nothing."}
CHANGED, ADDED, REMOVED = ([("labels", word)] for word in ("changed", "added", "removed"))


def meta(workspace: Workspace, name: str) -> dict[str, Any]:
    return dict(workspace.manifest()[workspace.place(name)]["meta"])


def write(workspace: Workspace, captions: dict[str, str]) -> None:
    lines = "".join(f"{name},{text}\n" for name, text in captions.items())
    (workspace.folder / "captions.csv").write_text(f"path,caption\n{lines}")


def labelled(workspace: Workspace, *captioners: str) -> Workspace:
    """Captions from a table, a transcript, facts and questions beside the videos."""
    write(workspace, CAPTIONS)
    srt = "1\n00:00:00,500 --> 00:00:01,000\nWoof.\n"
    (workspace.clips / "dog.en.srt").write_text(srt)
    (workspace.clips / "cup.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:00.500\nBackwards\n")
    (workspace.clips / "dog.info.json").write_text('{"title": "Rex", "view_count": 3}')
    row = {"question": "Who?", "answer": "Rex", "video": "dog.mp4"}
    (workspace.folder / "qa.jsonl").write_text(json.dumps(row))
    backends = ["sidecar", *captioners]
    workspace.configure("caption", enabled=True, captioner_backend=backends, device="cpu")
    workspace.configure("transcript", enabled=True, backend="sidecar")
    workspace.configure("labels", captions="captions.csv", meta="beside", questions="qa.jsonl")
    return workspace


def test_an_edit_of_one_line_re_does_one_video(fresh: Workspace) -> None:
    """There and back again; what is of no video, or of none that can be read, is named."""
    workspace = labelled(fresh)
    first = workspace.snakemake("manifest")
    assert first.status == 0, first.stderr
    assert 'labels.captions: of no video here: 1 (captions.csv:4: "nowhere.mp4")' in first.stderr
    assert "labels.captions: videos without: 1 (bunny.mp4)" in first.stderr
    backwards = "cup.vtt:3: it ends at 0.5 s, and starts at 1 s"
    assert meta(workspace, "cup")["no_transcript"].endswith(backwards)
    dog = meta(workspace, "dog")
    assert (dog["caption"], dog["captioner"]) == ("A white dog.", "sidecar")
    assert (dog["transcript"], dog["language"], dog["transcriber"]) == ("Woof.", "en", "sidecar")
    assert (dog["title"], dog["view_count"]) == ("Rex", 3)
    assert dog["questions"] == [{"question": "Who?", "answer": "Rex"}]
    assert meta(workspace, "bunny")["no_caption"] == "no caption is given"
    features = json.loads((workspace.output / "manifest_v1.features.json").read_text())
    assert features["meta"]["view_count"] == {"dtype": "int64", "_type": "Value"}
    before = workspace.digests()
    write(workspace, {"late.mp4": "Nothing."} | CAPTIONS | {"dog.mp4": "The white dog."})
    told = workspace.call("plan", "manifest").stdout
    assert told.startswith("label of dog.mp4 changed → caption/sidecar, select of 1 video\n")
    assert workspace.build() == {
        **dict.fromkeys(("caption_shard", "select_shard", "manifest_part"), 1),
        **dict.fromkeys(("manifest_join", "manifest"), 1),
    }
    after, place = workspace.digests(), workspace.place("dog")
    assert {name for name in after if after[name] != before.get(name)} == {
        *(f"{place}/caption/sidecar.json", f"{place}/caption.json", "manifest_v1.jsonl"),
    }
    write(workspace, CAPTIONS)
    workspace.build()
    back = workspace.digests("manifest")
    assert back == {name: digest for name, digest in before.items() if "manifest" in name}
    assert workspace.build() == {"manifest": 1} or workspace.build() == {}


@pytest.mark.long
def test_a_model_fills_up_what_is_not_given(fresh: Workspace) -> None:
    workspace = labelled(fresh, "imagenet-tags")
    holds(workspace, "manifest")
    assert meta(workspace, "bunny")["captioner"] == "imagenet-tags"
    assert meta(workspace, "dog")["captions"]["imagenet-tags"] is None
    write(workspace, CAPTIONS | {"bunny.mp4": "A rabbit."})
    said = holds(workspace, "manifest")
    made = ("caption/sidecar", "caption/imagenet-tags", "select")
    assert [reasons(said, step) for step in made] == [ADDED] * 3
    assert meta(workspace, "bunny")["caption"] == "A rabbit."
    write(workspace, CAPTIONS | {"bunny.mp4": "The rabbit."})
    said = holds(workspace, "manifest")
    assert reasons(said, "caption/sidecar") == reasons(said, "select") == CHANGED
    assert "caption/imagenet-tags" not in said["steps"]
    write(workspace, CAPTIONS)
    assert reasons(holds(workspace, "manifest"), "caption/imagenet-tags") == REMOVED
    (workspace.clips / "dog.en.srt").unlink()
    (workspace.clips / "dog.info.json").write_text('{"title": "Max"}')
    said = holds(workspace, "manifest")
    assert reasons(said, "transcript") == REMOVED
    assert [*said["steps"]] == ["transcript"]  # no step reads facts
    assert list(said["labels"]["meta"].values()) == ["changed"]
    assert meta(workspace, "dog")["title"] == "Max"
    workspace.configure("caption", also_labelled=True)
    said = holds(workspace, "manifest")
    models = [("settings", "caption.also_labelled: false → true")]
    assert reasons(said, "caption/imagenet-tags") == reasons(said, "select") == models
    assert meta(workspace, "dog")["captions"]["imagenet-tags"]["caption"]
    (workspace.clips / "cup.mp4").unlink()
    assert not any(holds(workspace, "manifest")["steps"].values())
    assert plan(workspace, "manifest")["jobs"] == {}
    place = workspace.place("dog")
    for name in ("caption/sidecar.json", "caption.json"):
        (workspace.output / place / name).unlink()
    assert workspace.build(f"out/{place}/caption.json") == {"caption": 1, "select": 1}
    assert meta(workspace, "dog")["caption"] == "A white dog."
    found = workspace.call("validate", "--deep")
    assert found.returncode == 0, found.stdout + found.stderr
    removed = workspace.call("gc", "--dry-run")
    assert removed.returncode == 0, removed.stderr
