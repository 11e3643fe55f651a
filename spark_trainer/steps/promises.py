"""What a record promises: files that are there and hold what was written.

A later step that finds a promise broken takes back the record, its marker, and the markers of all
that follows, so that the next call makes it again.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spark_trainer import steps
from spark_trainer.data.files import Broken, digest, file_digest
from spark_trainer.data.layout import Layout, Video
from spark_trainer.errors import MachineError
from spark_trainer.steps.base import Step, word
from spark_trainer.steps.record import Record


def current(step: Step[Any, Any], fingerprint: str, video: Video, layout: Layout) -> bool:
    """Tell whether a record is the wanted one, no failure, and all its files are there."""
    record = step.RECORD.find(step.path(layout, video))
    named = promised(step, layout, video, record)
    return (
        fresh(record, video, fingerprint)
        and named is not None
        and all(file.exists() for file in named)
    )


def fresh(record: Record | None, video: Video, fingerprint: str) -> bool:
    """Tell whether a record is the wanted one and no failure, which is tried again."""
    return same(record, video, fingerprint) and record is not None and record.settled


def same(record: Record | None, video: Video, fingerprint: str) -> bool:
    """Tell whether a record is of this video, with what is said of it, and has this fingerprint.

    A folder named after a file may still hold the record of that file's earlier content.
    """
    made = record and (record.video, record.correction, record.labels, record.fingerprint)
    return made == (video.hash, video.correction, video.labels, fingerprint)


def promised(
    step: Step[Any, Any], layout: Layout, video: Video, record: Record | None
) -> list[Path] | None:
    """Name the files that a record promises; none at all if it is no record of this step."""
    try:
        return None if record is None else step.files(layout, video, record)
    except (KeyError, TypeError, AttributeError):  # facts of other types than the step writes
        return None


def content(step: Step[Any, Any], layout: Layout, video: Video, record: Record) -> str | None:
    """Digest what a record promises; None where it promises no files.

    A file in a folder of its own stands for that folder, which is moved into place as a whole.
    """
    home = layout.folder(video)
    named = promised(step, layout, video, record) or []
    roots = {path if path.parent == home else path.parent for path in named}
    found = [file for root in roots for file in (root, *root.rglob("*")) if file.is_file()]
    held = [[file.relative_to(home).as_posix(), file_digest(file)] for file in sorted(found)]
    return digest(held) if named else None


def settled(layout: Layout, video: Video, name: str) -> Record:
    """Read what an earlier step's marker says is there: a record, and the files that it promises.

    Raises:
        MachineError: it is not. The marker is withdrawn, so that the next call makes it again.
    """
    step = steps.load(name)
    missing = step.path(layout, video)
    record: Record | None = step.RECORD.find(missing)
    named = promised(step, layout, video, record)
    if record and record.settled and record.video == video.hash and named is not None:
        gone = next((file for file in named if not file.exists()), None)
        if gone is None:
            return record
        missing = gone
    take_back(layout, video, name)
    raise MachineError(f"{missing}: gone or broken; the next call makes it again")


def upheld(layout: Layout, video: Video, read: Iterable[str]) -> None:
    """Look whether what a step could not read still is what the steps before it wrote.

    Args:
        layout: where everything lies.
        video: whose files could not be read.
        read: the steps that the step reads.

    Raises:
        MachineError: it is not. It is taken back, so that the next call makes it again.
    """
    for name in _with_all_before(read):
        step = steps.load(name)
        record = step.RECORD.find(step.path(layout, video))
        held = record and content(step, layout, video, record)
        if record and held and held != record.content:
            take_back(layout, video, name)
            where = step.files(layout, video, record)[0]
            raise MachineError(f"{where}: not what {name} wrote; the next call makes it again")


def _with_all_before(names: Iterable[str]) -> Iterator[str]:
    """Name these steps and all before them, at any distance."""
    for name in names:
        yield name
        yield from _with_all_before(steps.load(name).upstream)


def take_back(layout: Layout, video: Video, name: str) -> None:
    """Remove a record; its marker, and those of all that follows, go before the next call plans."""
    layout.take_back(
        [
            *_overlapping(layout.marker_folder(name), video.bits),
            *_downstream(layout, name, video.bits),
        ]
    )
    steps.load(name).path(layout, video).unlink(missing_ok=True)


def withdraw(folder: Path, bits: str, fingerprint: str, keep: Path | None) -> None:
    """Remove markers that speak of these videos, before their files change.

    Without it A -> B -> A would find A's marker over B's files. Shards overlap when the bits of
    one start with those of the other, as they do after a re-bucketing. With a marker to keep, all
    others go; for a single video (no marker) those of the same fingerprint stay true.
    """
    for marker in _overlapping(folder, bits):
        made_by = marker.name.split(".")[2]
        if marker != keep and (keep or made_by != fingerprint):
            marker.unlink(missing_ok=True)


def withdraw_uncorrected(layout: Layout, name: str, video: Video) -> None:
    """Remove the markers of a step that speak of a video as it was corrected otherwise, or not."""
    for marker in _overlapping(layout.marker_folder(name), video.bits):
        try:
            members = layout.read_shard(layout.shard(marker.name.rsplit(".", 2)[0])).videos
            untrue = any(one.hash == video.hash and one != video for one in members)
        except (Broken, FileNotFoundError):
            untrue = True  # as far as can be told
        if untrue:
            marker.unlink(missing_ok=True)


def _overlapping(folder: Path, bits: str) -> list[Path]:
    """List the markers of the shards that may hold a video of these bits."""
    found = [(path, path.name.split(".")[0].removeprefix("b")) for path in folder.rglob("b*.jsonl")]
    return [path for path, other in found if other.startswith(bits) or bits.startswith(other)]


def withdraw_downstream(layout: Layout, name: str, bits: str) -> None:
    """Remove the markers of what reads this step's results, the manifest's marker with them.

    Snakemake makes nothing of a missing marker while its consumers are there: without this a
    change of settings that stops half-way and is taken back would leave its results in place.
    """
    for marker in _downstream(layout, name, bits):
        marker.unlink(missing_ok=True)


def _downstream(layout: Layout, name: str, bits: str) -> list[Path]:
    """List the markers of what reads a step's results, at any distance."""
    changed = [word(name)]
    for other in steps.STEPS:
        if set(steps.load(other).upstream) & set(changed):
            changed.append(other)
    folders = [layout.marker_folder(other) for other in [*changed[1:], "manifest"]]
    found = [path for folder in folders for path in _overlapping(folder, bits)]
    return [*found, *layout.marker_folder("join").glob("*.json")]
