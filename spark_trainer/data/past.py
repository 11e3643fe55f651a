"""Past manifests: those that were built here and those that runs learnt from, by their SHA-256.

A manifest is cut after lines whose own checksum says so. Two that differ in few lines have most of
their pieces in common, wherever these lines stand. A piece is compressed, named by the SHA-256 of
what it holds, and there once.
"""

import contextlib
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from spark_trainer.data import jsonl
from spark_trainer.data.files import Broken, flush, holds, read_json, replacing, write_json
from spark_trainer.data.layout import Layout
from spark_trainer.data.manifest import Entry
from spark_trainer.errors import told

LINES = 64  # of a piece, in the mean; 256 keep twice as much where 21 of 20,000 lines change
LEVEL = 4  # of gzip; 9 takes three times as long, for 7 % less
UNREADABLE = (gzip.BadGzipFile, zlib.error, EOFError)


@dataclass(frozen=True)
class Past:
    """A manifest as it was.

    Attributes:
        sha256: of its bytes, as they were when it was kept.
        pieces: what it is joined from.
        videos: how many lines it has.
        runs: names of the run folders that were trained on it.
        forgotten: how many lines were removed since, with their videos.
    """

    sha256: str
    pieces: Sequence[str]
    videos: int
    runs: Sequence[str] = ()
    forgotten: int = 0

    def entries(self, layout: Layout) -> Iterator[Entry]:
        """Yield its entries, one by one.

        Raises:
            Broken: a piece of it is gone or damaged.
        """
        for piece in self.pieces:
            for line in _content(layout.past_piece(piece)).splitlines():
                if line.strip():
                    yield jsonl.parsed(line.removeprefix(jsonl.UTF8))

    def _write(self, layout: Layout) -> None:
        path, value = layout.past(self.sha256), asdict(self)
        if not holds(path, value):
            write_json(path, value)


def keep(layout: Layout, manifest: Path, run: str | None = None) -> str:
    """Keep a manifest; one that is kept already only gets the name of another run.

    Args:
        layout: the store that keeps it.
        manifest: its file.
        run: the name of the run folder that is trained on it.

    Returns:
        Its SHA-256.
    """
    whole, pieces, videos = hashlib.sha256(), list[str](), 0
    written = []
    with open(manifest, "rb") as file:
        for lines in _cut(file):
            content = b"".join(lines)
            whole.update(content)
            videos += len(lines)
            name, path = _write_piece(layout, content)
            pieces.append(name)
            written += [path] if path else []
    flush([*written, *{path.parent for path in written}])
    sha256 = whole.hexdigest()
    known = every(layout).get(sha256)
    runs = {*(known.runs if known else ()), *([run] if run else ())}
    Past(sha256, pieces, videos, sorted(runs))._write(layout)
    return sha256


def every(layout: Layout) -> dict[str, Past]:
    """Return SHA-256 -> past manifest, without those whose list of pieces is damaged."""
    found = {}
    for path in sorted(layout.past("").parent.glob("*.json")):
        try:
            one = Past(**read_json(path, dict))
        except (Broken, TypeError):  # `problems` names it
            continue
        found[one.sha256] = one
    return found


def digests(layout: Layout) -> set[str]:
    """Return the SHA-256 of each past manifest, without the lines that were forgotten.

    One of which a piece is gone or damaged is left out.
    """
    found = set()
    for one in every(layout).values():
        with contextlib.suppress(Broken):
            found.add(_joined(layout, one) if one.forgotten else one.sha256)
    return found


def forget(layout: Layout, video: str) -> None:
    """Remove a video's lines from all that is kept; a call that was cut short can be repeated."""
    others: dict[str, tuple[str, int]] = {}  # piece -> what stands for it, and the lines it lacks
    for path in holding(layout, video):
        lines = _content(path).splitlines(keepends=True)
        left = [line for line in lines if not jsonl.is_of(line, video)]
        name, written = _write_piece(layout, b"".join(left))
        flush([written, written.parent] if written else [])
        others[path.stem] = name, len(lines) - len(left)
    for one in every(layout).values():
        gone = sum(others[piece][1] for piece in one.pieces if piece in others)
        if gone:
            left_of = [others[piece][0] if piece in others else piece for piece in one.pieces]
            less = one.videos - gone
            replace(one, pieces=left_of, videos=less, forgotten=one.forgotten + gone)._write(layout)
    for piece in others:
        layout.past_piece(piece).unlink()


def holding(layout: Layout, video: str) -> list[Path]:
    """List the pieces that hold a line of a video."""
    found = []
    for path in _pieces(layout):
        lines = _content(path).splitlines()
        if any(jsonl.is_of(line, video) for line in lines):
            found.append(path)
    return found


def unnamed(layout: Layout, named: Iterable[str]) -> Iterator[Path]:
    """Yield the files of all manifests but those of some SHA-256: their lists, then pieces."""
    known = every(layout)
    wanted = {*named} & known.keys()
    yield from (layout.past(sha256) for sha256 in sorted(known.keys() - wanted))
    used = {piece for sha256 in wanted for piece in known[sha256].pieces}
    yield from (path for path in _pieces(layout) if path.stem not in used)


def problems(layout: Layout) -> Iterator[tuple[Path, str]]:
    """Yield the files that are not as they were written, each with what is wrong."""
    known, lines = every(layout), dict[str, int]()
    for path in sorted(layout.past("").parent.glob("*.json")):
        if path.stem not in known:
            yield path, "no list of the pieces of a manifest"
    for path in _pieces(layout):
        try:
            lines[path.stem] = _content(path).count(b"\n")
        except (Broken, OSError) as error:
            yield path, told(error).removeprefix(f"{path}: ")
    for piece in sorted({piece for one in known.values() for piece in one.pieces}):
        if not layout.past_piece(piece).is_file():
            yield layout.past_piece(piece), "gone; a past manifest has it"
    for one in known.values():
        if lines.keys() >= {*one.pieces} and not _as_kept(layout, one, lines):
            yield layout.past(one.sha256), "its pieces are not the manifest of its name"


def _as_kept(layout: Layout, one: Past, lines: Mapping[str, int]) -> bool:
    """Tell whether a manifest has its lines, and is what its SHA-256 says if none was forgotten.

    Args:
        layout: the store that keeps it.
        one: the manifest.
        lines: piece -> how many it has.
    """
    if sum(lines[piece] for piece in one.pieces) != one.videos:
        return False
    if one.forgotten:
        return True
    return _joined(layout, one) == one.sha256


def _joined(layout: Layout, one: Past) -> str:
    """Return the SHA-256 of what the pieces of a manifest hold together."""
    whole = hashlib.sha256()
    for piece in one.pieces:
        whole.update(_content(layout.past_piece(piece)))
    return whole.hexdigest()


def _cut(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield a manifest's lines, as many at a time as make a piece."""
    piece = []
    for line in lines:
        piece.append(line)
        if zlib.crc32(line) % LINES == 0:
            yield piece
            piece = []
    if piece:
        yield piece


def _write_piece(layout: Layout, content: bytes) -> tuple[str, Path | None]:
    """Write a piece unless it is there, whole; returns its name, and its file where written."""
    name = hashlib.sha256(content).hexdigest()
    path = layout.past_piece(name)
    with contextlib.suppress(Broken):
        _content(path)
        return name, None
    with replacing(path, flushed=False) as temporary:
        temporary.write_bytes(gzip.compress(content, LEVEL, mtime=0))
    return name, path


def _pieces(layout: Layout) -> list[Path]:
    return sorted(layout.past_piece("").parent.glob("[0-9a-f]*.gz"))


def _content(path: Path) -> bytes:
    """Read a piece.

    Raises:
        Broken: it is gone, or does not hold what its name says.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise Broken(path, "it is gone") from None
    except UNREADABLE as error:
        raise Broken(path, str(error)) from None
    if hashlib.sha256(content).hexdigest() != path.stem:
        raise Broken(path, "it holds something else than its name says")
    return content
