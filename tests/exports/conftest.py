"""A store as a build leaves it: a manifest, its types, and links to files with hostile names."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_trainer import exports
from spark_trainer.config import Export
from spark_trainer.data import manifest, meta, sources
from spark_trainer.data.layout import Layout
from spark_trainer.data.search import Found
from spark_trainer.exports import Made

FACTS = {"title": "text", "views": "whole", "license": "text", "questions": [{"question": "text"}]}
EVERY = dict.fromkeys([*meta.SOURCES, *meta.KEYS, *FACTS])
SAID = [
    {"text": " Hello  <b>you</b> --> ", "start": 0.5, "end": 1.25, "words": None},
    {
        "text": "and you",
        "start": 3600.0,
        "end": 3601.0,
        "words": [
            {"text": "and", "start": 3600.0, "end": 3600.4},
            {"text": "you", "start": 3600.4, "end": 3601.0},
        ],
    },
]
# Name of a file below the folder of videos -> what the manifest says of it.
VIDEOS: dict[bytes, dict[str, Any]] = {
    b"a/clip.mp4": {"caption": "A dog.\nIt barks.", "license": "CC-BY", "title": "Rex"},
    b"b/clip.MP4": {"caption": "<b> | \"quotes\" 'and' </script> \x7f \\ ü 🐕"},
    b"spaces and .dots. 'quotes'.mov": {"caption": "None"},
    b"new\nline.mp4": {"caption": "Ends\n", "segments": SAID, "transcript": "Hello", "views": 3},
    b"not \xff utf-8.mp4": {"caption": "Bytes.", "segments": SAID[:1], "language": "en"},
    b"no ending": {"caption": "Without."},
    b"silent.mkv": {"segments": []},
}
QUESTIONS = [{"question": "Who?", "answer": "Rex"}, {"question": "Where?", "answer": "Here"}]


class Store:
    """A store in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.layout, self.videos = Layout(folder / "out"), folder / "videos"
        self.exports = folder / "exports"
        self.hashes: dict[bytes, str] = {}

    def add(self, name: bytes, content: bytes | None = None) -> str:
        """Write a video's file; returns its hash."""
        path = os.path.join(os.fsencode(self.videos), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        content = content or b"video " + name
        Path(os.fsdecode(path)).write_bytes(content)
        self.hashes[name] = hashlib.sha256(content).hexdigest()
        return self.hashes[name]

    def write(self, said: dict[bytes, dict[str, Any]]) -> None:
        """Write the manifest over the videos that were added, and what a build notes of them."""
        found, entries = {}, []
        for name, facts in said.items():
            path = os.fsdecode(os.path.join(os.fsencode(self.videos), name))
            status = os.stat(path)
            identity = self.hashes[name]
            found[identity] = Found(path, path, path, status.st_size, status.st_mtime_ns)
            shown = name.decode("utf-8", "replace")
            known = {"source_path": shown, "sources": [shown], "duration": 2.0, "fps": 25.0}
            line = EVERY | known | {"width": 64, "height": 48, "frame_times": [0.0]} | facts
            entries.append({"id": identity, "frames_dir": "f", "audio": None, "meta": line})
        manifest.write(self.layout.manifest, sorted(entries, key=lambda entry: entry["id"]))
        types = self.layout.manifest.with_suffix(".features.json")
        types.write_text(json.dumps(meta.features(FACTS)), encoding="utf-8")
        sources.write(self.layout, found)

    def export(self, to: str, name: str = "data", **keys: Any) -> Made:
        """Make an export."""
        settings = exports.resolved(Export.model_validate({"to": to, **keys}), f"exports.{name}")
        return exports.make(settings, self.layout, self.exports / name, f"exports.{name}")

    def clip(self, name: bytes) -> str:
        """The name of a video's file in an export."""
        ending = Path(os.fsdecode(name)).suffix.lower()
        return self.hashes[name] + ending


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    for name in VIDEOS:
        made.add(name)
    made.write(VIDEOS)
    return made


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each file below a folder, as its readers see it."""
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


ALL = {"validation": 0.0}
