"""Find what nothing reaches: no configuration of the store, no manifest and no run.

What this project did not write is only named, links are left alone, and so is a run's folder,
whatever it holds.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from spark_trainer import steps
from spark_trainer.data import corrected, past
from spark_trainer.data.encoded import DIGITS, SHARED
from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.labels.kept import unused
from spark_trainer.data.layout import Layout, Video
from spark_trainer.graph import exports
from spark_trainer.graph.exports import ExportGraph
from spark_trainer.runs.folder import RunFolder
from spark_trainer.steps import promises
from spark_trainer.store import clips, ours
from spark_trainer.store.reach import Reach

DAY_S = 24 * 3600
LOGS = re.compile(r"[0-9]{8}-[0-9]{6}")  # the name of a command's log folder begins so
HASHED = "[0-9a-f]" * 2

STAYS = "not written by SparkTrainer, and stays"

Found = tuple[str, Path]  # what it is, and where


def unreached(reach: Reach, logs_older_than_days: float) -> Iterator[Found]:
    """Yield what nothing reaches.

    Args:
        reach: what does.
        logs_older_than_days: the age from which a command's logs are listed.

    Raises:
        Broken: of a run, which is damaged, nobody knows what it reaches.
    """
    for run in reach.runs:
        read_json(run.run_file, dict)
    yield from _state(reach)  # markers go before what they speak of
    yield from _videos(reach)
    named = past.unnamed(reach.layout, reach.manifests)
    yield from (("past manifests", path) for path in named)
    yield from _encoded(reach)
    yield from _logs(reach, logs_older_than_days)


def _videos(reach: Reach) -> Iterator[Found]:
    """Yield the folders of videos that are gone, and what other settings made of those here."""
    layout = reach.layout
    for folder in layout.root.glob(f"{HASHED}/{HASHED}*"):
        of_video = folder.name[:2] == folder.parent.name and ours.hexadecimal(folder.name, 64)
        if of_video and not reach.has_folder(folder):
            yield from _whole("videos that are gone", folder, ours.of_video)
    for folder in clips.named(layout):
        if not reach.has_folder(folder):
            yield from _whole("videos that are gone, or named otherwise", folder, ours.of_video)
    for video in reach.listed.values():
        for path in _outdated(reach, video):
            yield "results of other settings", path


def _whole(kind: str, folder: Path, own: Callable[[str], bool]) -> Iterator[Found]:
    """Yield a folder, or what is this project's in it where there is something else, too."""
    if folder.is_symlink() or not folder.is_dir():
        return
    others = [*ours.others(folder, own)]
    yield from ((STAYS, path) for path in others)
    if not others:
        yield kind, folder
        return
    yield from ((kind, path) for path in sorted(folder.iterdir()) if path not in others)


def _outdated(reach: Reach, video: Video) -> Iterator[Path]:
    """Yield the files that only records name which no configuration asks for, then these records.

    A record goes last: without it nobody would find its files.
    """
    wanted, others = set[Path](), set[Path]()
    for record in reach.layout.folder(video).rglob("*.json"):
        step, fingerprint = _made_by(record)
        if step is None:
            continue
        promised = _promised(reach.layout, video, step, record)
        named, root = {record, *promised}, reach.layout.root
        read = any(path.relative_to(root).as_posix() in reach.files for path in promised)
        if read or fingerprint in reach.fingerprints.get(step, ()):
            wanted |= named
        elif step not in reach.fingerprints:  # of a step that is asked for, the next build sees to
            others |= named
    there = filter(os.path.lexists, others - wanted)  # of a call that was killed some are gone
    yield from sorted(there, key=lambda path: (path.suffix == ".json", path))


def _made_by(record: Path) -> tuple[str | None, str | None]:
    try:
        said = read_json(record, dict)
        return str(said["step"]), str(said["fingerprint"])
    except (Broken, KeyError, FileNotFoundError):
        return None, None


def _promised(layout: Layout, video: Video, name: str, record: Path) -> set[Path]:
    """Return the files that a record promises; a folder of them stands for what is in it."""
    step = steps.load(name)
    named = promises.promised(step, layout, video, step.RECORD.find(record)) or []
    home = layout.folder(video)
    return {path if path.parent == home else path.parent for path in named}


def _state(reach: Reach) -> Iterator[Found]:
    """Yield what the workflow noted of states that no configuration has."""
    layout, kind = reach.layout, "notes of earlier states"
    # First, as Snakemake makes nothing anew that goes missing behind a manifest's marker.
    joined = {graph.manifest_marker for graph in reach.graphs}
    for path in sorted({*layout.marker_folder("join").glob("*.json")} - joined):
        yield kind, path
    exported = {path for graph in reach.graphs for path in ExportGraph(graph).markers}
    for path in sorted({*layout.marker_folder(exports.NAME).glob("*/*.json")} - exported):
        yield kind, path
    markers = set(layout.marker_folder("").rglob("b*.jsonl"))
    old = {path for path in markers if not _current(reach, path)}
    for path in sorted(old):
        yield kind, path
    in_use = {path.name.rsplit(".", 2)[0] for path in markers - old}
    in_use |= {shard.name for graph in reach.graphs for shard in graph.index.lists()}
    for path in sorted(layout.shard("").parent.glob("*.json")):
        if path.stem not in in_use:
            yield kind, path
    digests = {graph.index.digest for graph in reach.graphs}
    for path in sorted(layout.index("").parent.glob("*.json")):
        if path.stem not in digests:
            yield kind, path
    by_hand = {
        path for graph in reach.graphs for path in corrected.copies(layout, graph.index.notes)
    }
    for path in sorted({*layout.corrected.glob("*.json")} - by_hand):
        yield kind, path
    for path in sorted(unused(layout, [graph.index.labels for graph in reach.graphs])):
        yield kind, path
    for path in sorted(layout.settings("", "").parent.rglob("*.json")):
        if not _named_by_a_run(reach, path):
            yield kind, path


def _current(reach: Reach, marker: Path) -> bool:
    """Tell whether a configuration asks for the results that a marker speaks of."""
    step = marker.parent.relative_to(reach.layout.marker_folder("")).as_posix()
    return marker.name.split(".")[2] in reach.fingerprints.get(step, ())


def _named_by_a_run(reach: Reach, path: Path) -> bool:
    """Tell whether a configuration, or the lineage of a run, names some settings."""
    step = path.parent.relative_to(reach.layout.settings("", "").parent)
    name, _, fingerprint = path.stem.rpartition(".")
    name = (step / name).as_posix()
    if name == "train":
        return any(fingerprint == f"{spec.name}-{spec.run_id}" for spec in reach.specs)
    asked = reach.fingerprints.get(name, set())
    told = (one.get(name) == fingerprint for one in reach.step_fingerprints)
    return fingerprint in asked or any(told)


def _encoded(reach: Reach) -> Iterator[Found]:
    """Yield what encoders made that no run takes."""
    kind = "encoded for no run"
    for folder in sorted(reach.layout.encoded("").glob("*")):
        if not ours.hexadecimal(folder.name, DIGITS):
            yield STAYS, folder
        elif folder.absolute() not in reach.encoders:
            yield from _whole(kind, folder, ours.of_encoder)
        elif (taken := reach.encoders[folder.absolute()]) is not None:
            yield from ((kind, path) for path in _untaken(reach, folder, taken))


def _untaken(reach: Reach, folder: Path, taken: set[str]) -> Iterator[Path]:
    """Yield the files of some encoders that no record of a run's settings names."""
    here = reach.listed.keys() | reach.kept
    named = set[Path]()
    for video in sorted(folder.glob(f"{HASHED}/{HASHED}*")):
        if not ours.hexadecimal(video.name, 64):
            continue
        if video.name not in here:
            yield video
            continue
        for record in video.glob("*.json"):
            if record.stem in taken:
                named |= {folder / name for name in _files(record)}
            else:
                yield record
    for kept in sorted(folder.rglob("*.safetensors")):
        if kept not in named and (kept.parent.name in here or kept.parents[1].name in SHARED):
            yield kept


def _files(record: Path) -> Sequence[str]:
    try:
        return list(read_json(record, dict).get("files") or ())
    except (Broken, FileNotFoundError):
        return ()


def _logs(reach: Reach, days: float) -> Iterator[Found]:
    """Yield the log folders of commands that ended so many days ago."""
    roots = {Path(spec.settings.output_dir) for spec in reach.specs} | {Path("runs")}
    roots |= {run.path.parent for run in reach.runs}
    oldest = time.time() - days * DAY_S
    for root in sorted(roots):
        for log in logs(root):
            if log.stat().st_mtime < oldest:
                yield from _whole("logs", log.parent, ours.of_log)


def logs(root: Path) -> Iterator[Path]:
    """Yield the logs of commands below a folder of runs, where earlier versions wrote them, too."""
    for log in sorted([*root.glob("logs/*/spark_trainer.log"), *root.glob("*/spark_trainer.log")]):
        if LOGS.match(log.parent.name) and not RunFolder(log.parent).exists():
            yield log
