"""Remove what run folders, and the logs of commands beside them, show of a video."""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from spark_trainer.data import jsonl
from spark_trainer.data.files import read_json, replacing, sweep, write_json
from spark_trainer.data.forgotten import Tombstone
from spark_trainer.runs.folder import RunFolder
from spark_trainer.store import clips, gc, lineage

SHORT = 12  # digits of a hash, as logs name a video
RECORD = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2} ")  # how a record of a log begins

Others = Callable[[Iterable[bytes]], Iterator[bytes]]  # of some lines, those that stay


def showing(runs: Iterable[RunFolder], video: str) -> list[RunFolder]:
    """List the runs whose folder shows a video: those that saw it, or were given or refused it."""
    listed = {
        run for run in runs if any(clips.lines(one, video) for one in (run.manifest, run.rejected))
    }
    return sorted(listed | {*clips.seen_by(runs, video)}, key=str)


def clean(run: RunFolder, video: str, kept: Tombstone) -> None:
    """Remove what a run's folder shows of a video; its id stays, with what became of it.

    A call that was killed is repeated whole: what tells that there is more goes last.
    """
    for folder in (run.path, run.samples):  # what a call that was killed left
        sweep(folder)
    _clean_samples(run, video)
    if run.whole_files.is_file():
        said = read_json(run.whole_files, dict)
        if others := _without(said, video):
            write_json(run.whole_files, others)
    drop_lines(run.log, lambda lines: of_others(lines, video))
    if video in clips.videos(run):
        described = read_json(run.lineage, dict)
        described["videos"][video] = {
            "forgotten": kept.at,
            "split": lineage.split(run, video),
        }
        write_json(run.lineage, described)
    for listed in (run.manifest, run.rejected):
        drop_lines(listed, lambda lines: (one for one in lines if not jsonl.is_of(one, video)))


def clean_logs(root: Path, video: str) -> None:
    """Remove what the logs of commands, and the notes on their jobs, say of a video."""
    for log in gc.logs(root):
        for folder in (log.parent, log.parent / "jobs"):
            sweep(folder)
        drop_lines(log, lambda lines: of_others(lines, video))
        for note in (log.parent / "jobs").glob("*.json"):
            if video[:SHORT] in note.read_text(encoding="utf-8", errors="replace"):
                note.unlink()


def drop_lines(path: Path, others: Others) -> None:
    """Write a file again with the lines that stay, all or nothing; not where all do."""
    if not path.is_file():
        return
    with open(path, "rb") as before, open(path, "rb") as after:
        if sum(1 for _ in before) == sum(1 for _ in others(after)):
            return
    with replacing(path) as temporary, open(path, "rb") as old, open(temporary, "wb") as new:
        new.writelines(others(old))


def of_others(lines: Iterable[bytes], video: str) -> Iterator[bytes]:
    """Yield the lines of a log that don't name a video by its hash, nor trace an error in it."""
    named = traced = False
    for line in lines:
        begins = named and line.startswith(b"Traceback ")
        traced = begins or (traced and not RECORD.match(line))
        named = video[:SHORT].encode() in line
        if not (named or traced):
            yield line


def _clean_samples(run: RunFolder, video: str) -> None:
    """Remove a video's samples, and the pictures that show it beside others."""
    lists = [*run.sample_lists(), *run.learnt_lists()]
    records: dict[Path, list[dict[str, Any]]] = {path: read_json(path, list) for path in lists}
    own = {
        path: [one for one in listed if one.get("video") == video]
        for path, listed in records.items()
    }
    shown = [path for path, found in own.items() if found]
    # Of an update in which a training was killed there are files, and no list of them.
    unlisted = [folder for folder in run.sample_folders() if not _list_of(folder).is_file()]
    files = [path for folder in run.sample_folders() for path in folder.glob(f"{video}*")]
    if not (shown or unlisted or files):
        return
    for folder in (run.events, run.trackers):
        if folder.is_dir():
            shutil.rmtree(folder)
    for folder in unlisted:
        shutil.rmtree(folder)
    for path in files:
        path.unlink(missing_ok=True)
    for listed in shown:
        for path in (
            *(run.shown(str(one["file"])) for one in own[listed] if "file" in one),
            listed.with_suffix("") / "sheet.png",
            run.sample_page(int(listed.stem.rpartition("_")[2])),
        ):
            path.unlink(missing_ok=True)
        write_json(listed, [one for one in records[listed] if one not in own[listed]])


def _list_of(folder: Path) -> Path:
    return folder.with_suffix(".json")


def _without(parts: dict[str, Any], video: str) -> dict[str, Any] | None:
    """Return what is told of whole files, without a video's; None where there are none of it."""
    others = {
        name: part | {"files": [one for one in part["files"] if one["video"] != video]}
        for name, part in parts.items()
    }
    return None if others == parts else others
