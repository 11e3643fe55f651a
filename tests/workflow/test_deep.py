"""`validate --deep` reads a store to the last byte, and names each file that is not as it was."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Workspace


def findings(workspace: Workspace) -> dict[str, str]:
    """Path, from the workspace on -> kind of what is wrong there."""
    done = workspace.call("validate", "--deep", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == (1 if lines else 0), done.stderr
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


DAMAGE: dict[str, tuple[str, Callable[[Path], None], set[str]]] = {
    "a byte of a frame": ("out/{dog}/frames/frame_000001.jpg", flip, {"damaged"}),
    "a cut WAV": ("out/{dog}/audio.wav", cut, {"damaged"}),
    "a record edited by hand": ("out/{cup}/frames.json", edit, {"edited"}),
    "a removed file": ("out/{cup}/audio.wav", Path.unlink, {"missing"}),
    "a foreign file": ("out/{bunny}/notes.txt", add, {"foreign"}),
    "a foreign folder": ("out/old/notes.txt", add, {"foreign"}),
    "an orphan": (f"out/ab/ab{62 * '0'}", Path.mkdir, {"orphan"}),
    "what a kill left": ("out/{bunny}/.audio.wav.host-0-1.0a.tmp", add, {"leftover"}),
    "a video that was overwritten": ("clips/bunny.mp4", flip, {"source"}),
}


@pytest.mark.long
def test_each_kind_of_damage_is_named(built: Workspace) -> None:
    built.build()  # which finds the clips of this copy
    assert findings(built) == {}
    places = {name: built.place(name) for name in ("dog", "cup", "bunny")}
    expected = {}
    for where, damage, kinds in DAMAGE.values():
        path = built.folder / where.format(**places)
        path.parent.mkdir(parents=True, exist_ok=True)
        damage(path)
        expected[where.format(**places)] = kinds
    manifest = built.output / "manifest_v1.jsonl"
    edit_line(manifest)
    found = findings(built)
    for where, kinds in expected.items():
        named = {kind for path, kind in found.items() if path.endswith(Path(where).name)
                 or where.startswith(path) or path.startswith(where)}  # fmt: skip
        assert kinds <= named, (where, found)
    assert "manifest" in {kind for path, kind in found.items() if path.endswith(".jsonl:1")}
