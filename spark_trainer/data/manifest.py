"""The manifest: canonical JSON lines, one video each, sorted by id.

One reader and one checker serve whoever reads a manifest, our own or a user's: what `validate`
accepts can be trained on. What it names beyond that, files that are not there and text that is
none, costs the samples that need it, which training leaves out and counts.
"""

import contextlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_trainer.data import jsonl, meta
from spark_trainer.data.files import canonical_json, replacing
from spark_trainer.data.jsonl import Broken

Entry = dict[str, Any]

SHOWN = 20  # problems that are named; the others are counted
LONGEST_NAME = 255  # bytes of an id, which may become a file's name
REQUIRED = ("id", "frames_dir", "meta")
PATHS = ("frames_dir", "audio")  # beside `meta`
POSE = ("pose.mp4", "face.mp4", "mask.mp4", "background.mp4", "keypoints.npz")


@dataclass(frozen=True)
class Line:
    """An entry, the number of its line from 1 on, and the byte at which it starts."""

    entry: Entry
    number: int
    offset: int


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Callable[[Entry], object]]:
    """Yield a function that writes one entry after the other; all or nothing."""
    with replacing(path) as part, open(part, "wb") as file:
        yield lambda entry: file.write(_spelled(entry) + b"\n")


def write(path: Path, entries: Iterable[Entry]) -> int:
    """Write entries in the order given, atomically; returns how many."""
    count = 0
    with writing(path) as add:
        for entry in entries:
            add(entry)
            count += 1
    return count


def _spelled(entry: Entry) -> bytes:
    """Return an entry as UTF-8, whatever its texts hold.

    A byte of a folder's name that is no UTF-8 stays what it is, spelled as JSON spells it, because
    the folder must be found again; anywhere else it becomes the sign for an unknown character.
    """
    text = canonical_json(entry)
    if not meta.HALVES.search(text):
        return text.encode()
    paths = {key: value for key, value in entry.items() if key in PATHS}
    whole = json.loads(meta.HALVES.sub("\ufffd", text)) | paths
    return canonical_json(whole).encode("utf-8", "backslashreplace")


def read(path: Path) -> Iterator[Entry]:
    """Yield entries one by one, so that memory does not grow with the manifest.

    Raises:
        Broken: after the last entry, if some lines are none.
        OSError: the file can't be read.
    """
    return (line.entry for line in lines(path))


def lines(path: Path) -> Iterator[Line]:
    """Yield entries as `read` does, with the place of each."""
    wrong: list[str] = []
    ids = array("q")
    numbers = array("q")
    for number, offset, text in jsonl.texts(path):
        try:
            entry = jsonl.parsed(text)
        except ValueError as error:
            wrong.append(f"{path}:{number}: {error}")
            continue
        found = list(_problems(entry))
        wrong += (f"{path}:{number}: {problem}" for problem in found)
        if not found:
            ids.append(hash(entry["id"]))
            numbers.append(number)
            yield Line(entry, number, offset)
    wrong += (
        f"{path}:{again}: its id is that of line {first}" for first, again in _twice(ids, numbers)
    )
    if wrong:
        raise Broken("\n".join(some(wrong)))


def entry_at(path: Path, offset: int) -> Entry:
    """Return the entry that `lines` found at a byte."""
    with open(path, "rb") as file:
        file.seek(offset)
        return dict(json.loads(file.readline()))


def files(entry: Entry) -> set[str]:
    """Return what a line names in its video's folder: files, and folders of them."""
    pose = entry["meta"].get("pose") or {}
    return {name for name in (*(entry.get(key) for key in PATHS), pose.get("dir")) if name}


def rejected(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rejected videos beside a manifest; none where there is no such list.

    Raises:
        Broken: a line of it is no JSON object.
    """
    for number, _, text in jsonl.texts(path) if path.exists() else ():
        try:
            yield jsonl.parsed(text)
        except ValueError as error:
            raise Broken(f"{path}:{number}: {error}") from None


def some(problems: Iterable[str]) -> list[str]:
    """Return the first problems, and how many more there are."""
    first: list[str] = []
    more = 0
    for problem in problems:
        if len(first) < SHOWN:
            first.append(problem)
        else:
            more += 1
    return [*first, f"and {more} more"] if more else first


def problems(path: Path) -> Iterator[str]:
    """Yield what is wrong with a manifest: lines that are no entries, missing files.

    Raises:
        OSError: the file can't be read.
    """
    folders = _Folders()
    try:
        for line in lines(path):
            where = f"{path}:{line.number}"
            yield from (
                f"{where}: {problem}" for problem in _lacks(line.entry, path.parent, folders)
            )
    except Broken as error:
        yield from str(error).splitlines()


class _Folders(dict[str, set[str]]):
    """Folder -> names of the files in it."""

    def __missing__(self, folder: str) -> set[str]:
        self.clear()  # a video's files stand in one folder
        try:
            names = set(os.listdir(folder))
        except OSError:
            names = set()
        self[folder] = names
        return names


def _lacks(entry: Entry, root: Path, folders: _Folders) -> Iterator[str]:
    """Yield what training would leave out: missing files, text that is not there."""
    if meta.HALVES.search(json.dumps(entry["meta"], ensure_ascii=False)):
        yield "meta holds half a character (a lone surrogate), which is no text"
    frames = entry["frames_dir"]
    if frames is not None:
        wanted = len(entry["meta"].get("frame_times") or ()) or 1
        names = {name.partition(".")[0] for name in folders[f"{root}/{frames}"]}
        present = sum(f"frame_{number:06d}" in names for number in range(1, wanted + 1))
        if present < wanted:
            yield f"{frames} holds {present} frames, expected {wanted}"
    audio = entry.get("audio")
    if audio is not None and not (root / audio).is_file():
        yield f"no such file: {audio}"
    if pose := entry["meta"].get("pose"):
        for name in POSE:
            if not (root / pose["dir"] / name).is_file():
                yield f"no such file: {pose['dir']}/{name}"


def _problems(entry: Entry) -> Iterator[str]:
    """Yield what is wrong with a line; nothing where it is an entry."""
    if missing := [name for name in REQUIRED if name not in entry]:
        yield f"without {', '.join(missing)}"
    if "id" in entry:
        yield from _identity_problems(entry["id"])
    for name in PATHS:
        value = entry.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            yield f"{name}: expected a path or null (got {jsonl.shown(value)})"
        elif problem := meta.path_problem(value):
            yield f"{name}: {problem}"
    said = entry.get("meta", {})
    if isinstance(said, dict):
        yield from meta.problems(said)
    else:
        yield f"meta: expected a mapping (got {jsonl.shown(said)})"


def _identity_problems(value: Any) -> Iterator[str]:
    """Yield what is wrong with an id: a hash in our own manifests, any name in others."""
    if not isinstance(value, str) or not value:
        yield f"id: expected a name (got {jsonl.shown(value)})"
    elif "/" in value or not value.isprintable() or value in (".", ".."):
        yield f"id: expected a name without / and control characters (got {jsonl.shown(value)})"
    elif len(value.encode()) > LONGEST_NAME:
        yield f"id: expected at most {LONGEST_NAME} bytes (got {jsonl.shown(value)})"


def _twice(ids: "array[int]", numbers: "array[int]") -> Iterator[tuple[int, int]]:
    """Yield pairs of lines with one id; eight bytes a line hold a million cheaply."""
    import numpy as np

    order = np.argsort(np.frombuffer(ids, np.int64), kind="stable") if ids else ()
    first = None
    for place in order:
        if first is not None and ids[place] == ids[first]:
            yield numbers[first], numbers[place]
        else:
            first = place
