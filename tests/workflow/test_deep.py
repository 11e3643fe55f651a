"""`validate --deep` reads a store to the last byte, and names each file that is not as it was."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import REPO, Workspace


def findings(workspace: Workspace) -> dict[str, str]:
    """Path -> kind of what is wrong, or remarked, there."""
    done = workspace.call("validate", "--deep", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    wrong = [one for one in lines if one["kind"] != "orphan"]
    assert done.returncode == (1 if wrong else 0), done.stderr
    return {one["path"]: one["kind"] for one in lines}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def edit(path: Path) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"fps": 99.0}))


def edit_line(path: Path) -> None:
    first, *others = path.read_text().splitlines()
    entry = json.loads(first)
    entry["meta"]["caption"] = "by hand"
    path.write_text("\n".join([json.dumps(entry), *others]) + "\n")


def add(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("what is this?")


# What is done to a file -> what is named, where it is another path, and its kind.
DAMAGE: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("out/{dog}/frames/frame_000001.jpg", flip, "out/{dog}/frames", "damaged"),
    ("out/{dog}/audio.wav", cut, "", "damaged"),
    ("out/{cup}/frames.json", edit, "", "edited"),
    ("out/{cup}/audio.wav", Path.unlink, "", "missing"),
    ("out/{bunny}/notes.txt", add, "", "foreign"),
    ("out/old/notes.txt", add, "out/old", "foreign"),
    ("out/ab/old", add, "", "foreign"),
    ("out/{bunny}/.audio.wav.host-0-1.0a.tmp", add, "", "leftover"),
    ("clips/bunny.mp4", flip, "{clips}/bunny.mp4", "source"),
    ("out/manifest_v1.jsonl", edit_line, "out/manifest_v1.jsonl:1", "manifest"),
]


@pytest.mark.long
def test_each_kind_of_damage_is_named(built: Workspace) -> None:
    """By its file and its kind, and nothing else is; a video that is gone is only remarked."""
    (built.clips / "mug.mp4").write_bytes((built.clips / "cup.mp4").read_bytes() + bytes(8))
    gone = built.place("mug")
    built.build()
    (built.clips / "mug.mp4").unlink()
    built.build()
    assert findings(built) == {f"out/{gone}": "orphan"}
    places = {name: built.place(name) for name in ("dog", "cup", "bunny")}
    places["clips"] = str(built.clips)
    # The second line is that of the video whose record is edited.
    expected = {f"out/{gone}": "orphan", "out/manifest_v1.jsonl:2": "manifest"}
    for where, damage, named, kind in DAMAGE:
        path = built.folder / where.format(**places)
        path.parent.mkdir(parents=True, exist_ok=True)
        damage(path)
        expected[(named or where).format(**places)] = kind
    piece = next(built.output.glob(".spark/manifests/pieces/*.gz"))
    piece.unlink()
    expected[piece.relative_to(built.folder).as_posix()] = "missing"
    assert findings(built) == expected


@pytest.mark.long
def test_it_checks_what_a_build_checks_before_its_first_job(
    built: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Devices, models and the names in texts: the same lines, and the build runs nothing."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    built.configure("transcript", enabled=True, whisper_model="offline-tiny.en", device="cuda")
    built.configure("caption", enabled=True, captioner_backend="qwen2-vl", model_name="no/model")
    model = str(REPO / "config/demo/blip-small")
    built.configure("train", model_name=model, from_scratch=True, text={"answer": "{colour}"})
    refused = built.snakemake("train")
    assert refused.jobs == {}
    said = built.call("validate", "--deep")
    assert said.returncode == 1
    told = refused.stderr.rpartition("spark_trainer: ")[2].splitlines()
    found = [line.strip() for line in said.stdout.splitlines()]
    assert [line.removeprefix("WRONG  ") for line in found if line.startswith("WRONG")] == told
    for key in ("transcript.device: ", "caption.model_name ", "train.runs.default.text.answer: "):
        assert any(line.startswith(key) for line in told), told
