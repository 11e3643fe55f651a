"""`validate --deep` reads a store to the last byte, and names each file that is not as it was."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spark_trainer.data import encoded
from spark_trainer.system import holder

from .conftest import REPO, Workspace


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Path -> size and time of all that lies there."""
    found = {str(path): path.lstat() for path in folder.rglob("*") if not path.is_dir()}
    return {name: (said.st_size, said.st_mtime_ns) for name, said in found.items()}


def findings(workspace: Workspace) -> dict[str, str]:
    """Path -> kind of what is wrong, or remarked, there; nothing is changed by asking."""
    before = state(workspace.output)
    done = workspace.call("validate", "--deep", "--json")
    assert state(workspace.output) == before
    lines = [json.loads(line) for line in done.stdout.splitlines()]
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


def take_checksum(path: Path) -> None:
    record = json.loads(path.read_text())
    del record["checksum"]
    path.write_text(json.dumps(record | {"codec": "flac"}))


def link(path: Path) -> None:
    aside = path.parents[4] / path.name
    path.rename(aside)
    path.symlink_to(aside)


def encode(path: Path) -> None:
    encoded.write(path, {"latents": torch.ones(2, 300)})
    flip(path)


def edit_line(path: Path) -> None:
    first, *others = path.read_text().splitlines()
    entry = json.loads(first)
    entry["meta"]["caption"] = "by hand"
    path.write_text("\n".join([json.dumps(entry), *others]) + "\n")


def add(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("what is this?")


def add_line(path: Path) -> None:
    path.write_text('{"id": "x", "reason": "none", "step": "frames"}\n')


DEAD = f"{holder.machine()}-{os.getpid()}-0.0a1b2c3d"  # this process's number at another time


# What is done to a file -> what is named, where it is another path, and its kind.
DAMAGE: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("out/{dog}/frames/frame_000001.jpg", flip, "out/{dog}/frames", "damaged"),
    ("out/{dog}/audio.wav", cut, "", "damaged"),
    ("out/{cup}/frames.json", edit, "", "edited"),
    ("out/{cup}/audio.wav", Path.unlink, "", "missing"),
    ("out/{bunny}/notes.txt", add, "", "foreign"),
    ("out/old/notes.txt", add, "out/old", "foreign"),
    ("out/ab/old", add, "", "foreign"),
    (f"out/{{bunny}}/.audio.wav.{DEAD}.tmp", add, "", "leftover"),
    (f"out/.spark/index/.a.json.{DEAD}.tmp", add, "", "leftover"),
    ("out/{dog}/audio.json", take_checksum, "", "edited"),
    ("out/{bunny}/audio.json", Path.unlink, "", "missing"),
    ("out/{bunny}/frames/frame_000001.jpg", link, "", "foreign"),
    ("out/{bunny}/gone", lambda path: path.symlink_to("nowhere"), "", "foreign"),
    (f"out/forgotten/{64 * '0'}.json", add, "", "damaged"),
    ("out/encoded/0a/ab/x/y.safetensors", encode, "", "damaged"),
    ("out/encoded/0a/ab/x/z.json", add, "", "damaged"),
    ("out/rejected_v1.jsonl", add_line, "out/rejected_v1.jsonl:1", "manifest"),
    ("out/manifest_v1.features.json", add, "", "edited"),
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
def test_what_belongs_to_another_video_is_named(built: Workspace) -> None:
    dog, cup = (built.output / built.place(name) for name in ("dog", "cup"))
    dog.rename(built.folder / "aside")
    cup.rename(dog)
    (built.folder / "aside").rename(cup)
    steps = ("frames", "audio")
    records = {f"out/{one.relative_to(built.output)}/{s}.json" for one in (dog, cup) for s in steps}
    assert {path for path, kind in findings(built).items() if kind == "damaged"} == records


@pytest.mark.long
def test_a_store_that_was_left_half_way_is_not_blamed(built: Workspace) -> None:
    """Other settings, not built yet; steps that are off; what `gc` removed; another folder."""
    built.configure("frames", frame_rate=2.0)
    assert findings(built) == {}
    built.configure("audio", enabled=False)
    assert findings(built) == {}
    assert built.call("gc", "--yes").returncode == 0
    assert findings(built) == {}
    assert (built.output / built.place("dog") / "audio.wav").is_file()  # the manifest names it
    built.config["caption"] = {"enabled": True, "captioner_backend": "imagenet-tags"}
    built.configure("audio", enabled=True)
    built.build()
    built.configure("caption", enabled=False)
    assert built.call("gc", "--yes").returncode == 0
    assert findings(built) == {}
    built.configure("caption", enabled=True)
    moved = built.copy(built.folder.parent / f"{built.folder.name}-moved")
    assert findings(moved) == {}
    assert moved.build()["caption_shard"]  # as `gc` removed its results
    assert findings(moved) == {}
    lines = moved.output / "manifest_v1.jsonl"
    lines.write_text("".join(reversed(lines.read_text().splitlines(keepends=True))))
    assert findings(moved) == {"out/manifest_v1.jsonl": "manifest"}


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
