"""The manifest: canonical JSON lines, one video each, sorted by id."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from spark_trainer.data.files import canonical_json, replacing

Entry = dict[str, Any]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Callable[[Entry], object]]:
    """Yield a function that writes one entry after the other; all or nothing."""
    with replacing(path) as part, open(part, "w", encoding="utf-8", errors="replace") as file:
        yield lambda entry: file.write(canonical_json(entry) + "\n")


def write(path: Path, entries: Iterable[Entry]) -> int:
    """Write entries in the order given, atomically; returns how many."""
    count = 0
    with writing(path) as add:
        for entry in entries:
            add(entry)
            count += 1
    return count


def read(path: Path) -> Iterator[Entry]:
    """Entries one by one, so that memory does not grow with the manifest.

    Raises:
        ValueError: a line that is no manifest entry, with its number.
    """
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: no JSON: {error}") from None
            missing = {"id", "frames_dir", "audio", "meta"} - set(entry)
            if missing:
                raise ValueError(f"{path}:{number}: without {', '.join(sorted(missing))}")
            yield entry


def problems(path: Path) -> Iterator[str]:
    """What is wrong with a manifest: order, duplicates, files that are not there."""
    previous = ""
    for number, entry in enumerate(read(path), start=1):
        where = f"{path}:{number}"
        if entry["id"] <= previous:
            yield f"{where}: id out of order or twice: {entry['id']}"
        previous = entry["id"]
        frames = entry["frames_dir"]
        if frames is not None:
            wanted = len(entry["meta"].get("frame_times", ())) or 1
            present = len(list((path.parent / frames).glob("frame_*.jpg")))
            if present != wanted:
                yield f"{where}: {frames} holds {present} frames, expected {wanted}"
        if entry["audio"] is not None and not (path.parent / entry["audio"]).is_file():
            yield f"{where}: no such file: {entry['audio']}"
        if pose := entry["meta"].get("pose"):
            folder = path.parent / pose["dir"]
            for name in ("pose.mp4", "face.mp4", "mask.mp4", "background.mp4", "keypoints.npz"):
                if not (folder / name).is_file():
                    yield f"{where}: no such file: {pose['dir']}/{name}"
