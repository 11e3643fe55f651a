"""A manifest's parts: a shard's entries, sorted by id, and a last line that proves them whole.

It names the part, so that neither a cut part nor another shard's passes for it.
"""

import hashlib
import heapq
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from spark_trainer.data.files import CHUNK_BYTES, Broken, canonical_json, read_state, replacing
from spark_trainer.data.manifest import Entry

# Of each of thousands of parts at once. A file is open only while a block of it is read.
BLOCK_BYTES = 1 << 15

_BETWEEN = re.compile(r'\],(?="[0-9a-f]{64}":\[)')


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write the entries of a shard, all or nothing."""
    content, count = hashlib.sha256(), 0
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for entry in sorted(entries, key=lambda entry: str(entry["id"])):
            # Bytes of a folder's name that are no UTF-8 are spelled as JSON spells them.
            line = f"{canonical_json(entry)}\n".encode("utf-8", "backslashreplace")
            content.update(line)
            file.write(line)
            count += 1
        file.write(_last_line(path, count, content.hexdigest()))


def _last_line(path: Path, count: int, sha256: str) -> bytes:
    last = {"part": path.name, "entries": count, "sha256": sha256}
    return f"{canonical_json(last)}\n".encode()


def read(path: Path) -> Iterator[Entry]:
    """Read a part's entries one by one.

    Raises:
        Broken: it is not there, cut, changed, or of another shard. This may show only after the
            last entry.
    """
    content, count, line = hashlib.sha256(), 0, b""
    for following in _lines(path):
        if line:
            content.update(line)
            count += 1
            yield _entry(path, line)
        line = following
    if line != _last_line(path, count, content.hexdigest()):
        raise Broken(path, "not the entries of its shard, whole")


def _lines(path: Path) -> Iterator[bytes]:
    place = 0
    while True:
        try:
            with open(path, "rb") as file:
                file.seek(place)
                lines = file.readlines(BLOCK_BYTES)
                place = file.tell()
        except FileNotFoundError:
            raise Broken(path, "not there") from None
        if not lines:
            return
        yield from lines


def _entry(path: Path, line: bytes) -> Entry:
    try:
        entry: Entry = json.loads(line)
        return entry | {"id": str(entry["id"])}
    except (ValueError, KeyError, TypeError):
        raise Broken(path, "a line that is no entry") from None


def merged(listed: Path, sources: Path) -> Iterator[tuple[Entry, list[str]]]:
    """Read the entries of every video that is here, sorted by id, each with its sources' names.

    Memory does not grow with the number of videos, but for a block of each part.

    Args:
        listed: the list of parts, each with the member list of the shard as it is now, or with
            none where only some videos are asked for. A part may hold videos that are gone.
        sources: the snapshot that says which videos are here.

    Raises:
        Broken: a video has no entry, or two; a file is not what it should be.
    """
    parts = [(Path(part), shard and Path(shard)) for part, shard in read_state(listed, list)]
    whole = all(shard for _, shard in parts)
    streams = [_current(part, shard) for part, shard in parts]
    entries = heapq.merge(*streams, key=lambda entry: entry["id"])
    entry = next(entries, None)
    for video_hash, names in read_sources(sources):
        while entry and entry["id"] < video_hash and not whole:
            entry = next(entries, None)
        if entry and entry["id"] == video_hash:
            yield entry, names
            entry = next(entries, None)
        elif whole:
            break
    else:
        if not (entry and whole):
            return
    for _ in entries:  # a part that is not whole shows at its end, and is to blame
        pass
    raise Broken(listed, "its parts are not those of the videos that are here")


def _current(part: Path, shard: Path | None) -> Iterator[Entry]:
    """Read the entries of the videos that a shard still holds."""
    if shard is None or part.name.startswith(f"{shard.stem}."):
        yield from read(part)
        return
    members = {video_hash for video_hash, *_ in read_state(shard, list)}
    for entry in read(part):
        if entry["id"] in members:
            members.remove(entry["id"])
            yield entry
    if members:
        raise Broken(part, f"no entry of {min(members)}")


def read_sources(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Read a snapshot of the video folders, hash by hash, without holding it whole.

    Raises:
        Broken: it is no such snapshot; the next call writes it again.
    """
    previous = ""
    try:
        for text in _pairs(path):
            for video_hash, names in json.loads(text).items():
                if video_hash <= previous or not all(isinstance(name, str) for name in names):
                    raise ValueError(video_hash)
                previous = video_hash
                yield video_hash, names
    except (ValueError, TypeError, AttributeError):
        path.unlink(missing_ok=True)
        raise Broken(path, "no list of videos sorted by hash") from None


def _pairs(path: Path) -> Iterator[str]:
    """Cut a JSON object of lists into objects of one pair."""
    rest = ""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        while block := file.read(CHUNK_BYTES):
            *whole, rest = _BETWEEN.split(rest + block)
            for text in whole:
                yield "{" + text.removeprefix("{") + "]}"
    yield "{" + rest.removeprefix("{")
