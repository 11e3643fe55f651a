"""Which video a user means, and everything in a store that derives from it."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spark_trainer.data import forgotten, hashing, jsonl
from spark_trainer.data.encoded import SHARED
from spark_trainer.data.files import Broken, file_digest, read_json
from spark_trainer.data.layout import OURS, Layout
from spark_trainer.errors import UserError
from spark_trainer.runs.folder import RunFolder
from spark_trainer.store.ours import hexadecimal

BEGINNING = re.compile(r"[0-9a-f]{6,64}")  # of a hash, as a user gives it


@dataclass(frozen=True)
class Clip:
    """A video: its hash, and the files that it was found in when the store was built last."""

    hash: str
    files: Sequence[Path]

    def __str__(self) -> str:
        return ", ".join([self.hash, *map(str, self.files[:3])])


def find(layout: Layout, wanted: str) -> Clip:
    """Find the video that is meant by a file, its path below `video_dir`, or its hash.

    Args:
        layout: the store.
        wanted: the path of a file, which is read; a path as the last build knew it; or a hash, of
            which six digits do where no other begins so.

    Raises:
        UserError: none is meant, or several; or the file's content is not that of the last build.
    """
    known = _known(layout)
    if Path(wanted).is_file():
        found = {_content(Path(wanted), known)}
    elif BEGINNING.fullmatch(wanted):
        found = {one for one in known if one.startswith(wanted)}
        found = found or ({wanted} if len(wanted) == 64 else set())
    else:
        pairs = ((one, file) for one, files in known.items() for file in files)
        meant = [(one, file) for one, file in pairs if f"/{file}".endswith(f"/{wanted}")]
        found = {_content(file, known) if file.is_file() else one for one, file in meant}
    if len(found) != 1:
        listed = "".join(f"\n  {Clip(one, known[one])}" for one in sorted(found)[:10])
        what = f"{len(found)} videos{listed}" if found else "no video here"
        first = "" if known else "; no video was built yet: `spark-trainer manifest` does that"
        raise UserError(f"{wanted!r} names {what}; expected a file, or a hash{first}")
    (one,) = found
    return Clip(one, known.get(one, []))


def _content(file: Path, known: Mapping[str, Sequence[Path]]) -> str:
    """Return the hash of a file.

    Raises:
        UserError: it holds another video than when the store was built last.
    """
    now = file_digest(file)
    named = ((one, path) for one, paths in known.items() for path in paths)
    before = {one for one, path in named if path.name == file.name and _same(path, file)}
    if before and now not in before:
        listed = "".join(f"\n  {one}, in the last build" for one in sorted(before))
        raise UserError(
            f"{str(file)!r} has changed; expected a hash, one of:{listed}\n  {now}, now"
        )
    return now


def _same(path: Path, file: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(file)


def _known(layout: Layout) -> dict[str, list[Path]]:
    """Return hash -> files, of every video that the store holds or has held."""
    known: dict[str, list[Path]] = {}
    for path, (_, _, video) in sorted(hashing.read_cache(layout.index_cache).items()):
        known.setdefault(video, []).append(Path(path))
    links = layout.source("")
    for link in links.iterdir() if links.is_dir() else ():
        known.setdefault(link.name, [])
    for video, one in forgotten.every(layout).items():
        known.setdefault(video, [*map(Path, one.files)])
    return known


def folders(layout: Layout, video: str) -> list[Path]:
    """List the folders that hold, or held, what the steps made of a video."""
    names = {f"{video[:2]}/{video}"}
    names |= {folder.name for folder in named(layout) if video in map(owner, records(folder))}
    for listed in layout.shard("").parent.glob("*.json"):
        with contextlib.suppress(Broken, FileNotFoundError, LookupError, TypeError):
            names |= {str(one[1]) for one in read_json(listed, list) if one[0] == video}
    return [layout.root / name for name in sorted(names) if (layout.root / name).is_dir()]


def named(layout: Layout) -> Iterator[Path]:
    """Yield the folders that hold records and are named after a video's file, not its hash."""
    for folder in sorted(layout.root.glob("[!.]*/")):
        if folder.name not in OURS and not folder.is_symlink() and any(map(owner, records(folder))):
            yield folder


def records(folder: Path) -> Iterator[Path]:
    """Yield what may be the records in a video's folder."""
    yield from folder.glob("*.json")
    for below in folder.glob("*/"):
        if not hexadecimal(below.name, 64):  # that is another video's
            yield from below.glob("*.json")


def owner(record: Path) -> str | None:
    """Return the hash of the video that a record is of; None where it is no record."""
    try:
        said = read_json(record, dict).get("video")
    except (Broken, FileNotFoundError):
        return None
    return said if isinstance(said, str) else None


def encoded(layout: Layout, video: str) -> list[Path]:
    """List the folders of what frozen encoders made of a video, one for each of the encoders."""
    return sorted(layout.encoded("").glob(f"*/{video[:2]}/{video}"))


def own_texts(layout: Layout, video: str) -> Iterator[Path]:
    """Yield what encoders made of texts that are said about this video, and about no other."""
    for folder in encoded(layout, video):
        encoders = folder.parents[1]
        own = _named(folder.glob("*.json"))
        if own:
            others = (path for path in encoders.glob("??/*/*.json") if path.parent != folder)
            yield from (encoders / name for name in sorted(own - _named(others)))


def _named(records: Iterable[Path]) -> set[str]:
    """Return the files that records name outside their video's own folder."""
    found: set[str] = set()
    for record in records:
        try:
            named = read_json(record, dict).get("files") or ()
        except (Broken, FileNotFoundError):
            continue
        found |= {name for name in named if Path(name).parts[0] in SHARED}
    return found


def lines(path: Path, video: str) -> list[bytes]:
    """Return the lines of a list of videos that are of one; none where there is no such list."""
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        return [line for line in file if jsonl.is_of(line, video)]


def seen_by(runs: Iterable[RunFolder], video: str) -> list[RunFolder]:
    """List the runs whose model saw a video, trained on or held out."""
    return [run for run in runs if video in videos(run)]


def videos(run: RunFolder) -> dict[str, object]:
    """Return what is kept of each video that a run's model saw; nothing before it was launched.

    Raises:
        UserError: it is damaged.
    """
    if not run.lineage.is_file():
        return {}
    try:
        return dict(read_json(run.lineage, dict)["videos"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{run.lineage}: damaged; it can't be told which videos it saw") from None
