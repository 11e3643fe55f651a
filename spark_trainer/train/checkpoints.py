"""Checkpoints on disk: which are whole, which is the newest, what is kept.

A checkpoint is whole when `digests.json`, written last, names its run, its update and every file in
it with size and SHA-256, and all of that is so. Nothing heavy is imported, and nothing is loaded.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from spark_trainer.data.files import file_digest, read_json, write_json
from spark_trainer.errors import MachineError
from spark_trainer.runs.folder import RunFolder, step_name, step_of

DIGESTS = "digests.json"
STEP = "step.json"
WRITING = ".writing"  # what a checkpoint is called until it is whole
BROKEN = "broken_"
READERS = 4  # files that are read at once


def begin(folder: RunFolder) -> Path:
    """Make an empty folder to write a checkpoint in."""
    temporary = folder.checkpoints / WRITING
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def commit(temporary: Path, step: int, run_id: str) -> Path:
    """Flush what was written, write the digests and give the checkpoint its name.

    A crash at any moment leaves the checkpoint before; so does a disk that is full.

    Returns:
        where it lies.
    """
    names = list(_files(temporary))
    with ThreadPoolExecutor(READERS) as readers:
        facts = dict(
            zip(names, readers.map(lambda name: _facts(temporary / name), names), strict=True)
        )
    write_json(temporary / DIGESTS, {"run": run_id, "step": step, "files": facts})
    for name in [*names, DIGESTS]:
        _flush(temporary / name)
    for inside, _, _ in os.walk(temporary, topdown=False):
        _flush(Path(inside))
    target = temporary.with_name(step_name(step))
    if target.exists():
        _aside(target, "replaced_")
    temporary.rename(target)
    _flush(target.parent)
    shutil.rmtree(target.with_name("replaced_" + target.name), ignore_errors=True)
    return target


def abandon(folder: RunFolder, step: int, error: Exception) -> MachineError:
    """Give back the space of a checkpoint that can't be written; returns what to say."""
    shutil.rmtree(folder.checkpoints / WRITING, ignore_errors=True)
    known = folder.saved_checkpoints()
    kept = f"the one before is kept: {known[-1]}" if known else "there is none before it"
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return MachineError(
        f"{folder.checkpoint(step)}: the checkpoint can't be written: {why}; {kept}; "
        "once it can, the same command goes on"
    )


def fault(checkpoint: Path, run_id: str) -> str | None:
    """Tell what is wrong with a checkpoint of a run; None if it is whole."""
    try:
        if not (checkpoint / DIGESTS).is_file() and os.path.lexists(checkpoint / DIGESTS):
            return f"{DIGESTS} is no file"
        told = read_json(checkpoint / DIGESTS)
        if told["run"] != run_id:
            return f"it is of another run, {told['run']}"
        if told["step"] != step_of(checkpoint):
            return f"it is of update {told['step']}"
        return _difference(checkpoint, told["files"])
    except FileNotFoundError:
        return f"no {DIGESTS}, which is written last"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (KeyError, TypeError, ValueError, AttributeError):
        return f"{DIGESTS} is damaged"


def newest(folder: RunFolder, run_id: str, say: Callable[[str], object]) -> Path | None:
    """Find the newest whole checkpoint of a run; broken ones after it are named and set aside."""
    for checkpoint in reversed(folder.saved_checkpoints()):
        wrong = fault(checkpoint, run_id)
        if wrong is None:
            return checkpoint
        say(f"{checkpoint} is broken and left out: {wrong}; it is now {_aside(checkpoint, BROKEN)}")
    return None


def rotate(folder: RunFolder, keep: int, best: Path) -> None:
    """Delete all but the newest checkpoints and the best one."""
    for old in folder.saved_checkpoints()[:-keep]:
        if old != best:
            shutil.rmtree(old)


def adopt(source: Path, folder: RunFolder, run_id: str) -> None:
    """Copy a checkpoint of another run, as one of this run, whose patience begins anew.

    After an early stop a run would stop again at once.
    """
    temporary = begin(folder)
    for name in read_json(source / DIGESTS)["files"]:
        target = temporary / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)
    saved = read_json(temporary / STEP)
    if "stale" in saved["progress"]:
        saved["progress"]["stale"] = 0
        write_json(temporary / STEP, saved)
    commit(temporary, step_of(source), run_id)


def _aside(checkpoint: Path, prefix: str) -> Path:
    """Rename what is in the way of a checkpoint of this update."""
    number, target = 1, checkpoint.with_name(prefix + checkpoint.name)
    while os.path.lexists(target):
        number += 1
        target = checkpoint.with_name(f"{prefix}{checkpoint.name}_{number}")
    checkpoint.rename(target)
    return target


def _difference(checkpoint: Path, files: dict[str, dict[str, Any]]) -> str | None:
    """Return the first way in which a folder differs from its digests."""
    found = {*_files(checkpoint)} - {DIGESTS}
    if lost := sorted(files.keys() - found):
        return f"no {lost[0]}"
    if strange := sorted(found - files.keys()):
        return f"{strange[0]} does not belong to it"
    for name, told in sorted(files.items()):
        facts = (checkpoint / name).stat()
        if not stat.S_ISREG(facts.st_mode):
            return f"{name} is no file"
        if facts.st_size != told["size"]:
            return f"{name} has {facts.st_size} bytes, not {told['size']}"
    with ThreadPoolExecutor(READERS) as readers:
        digests = readers.map(lambda name: file_digest(checkpoint / name), files)
        for (name, told), digest in zip(files.items(), digests, strict=True):
            if digest != told["sha256"]:
                return f"{name} has other bytes than were written"
    return None


def _files(folder: Path) -> Iterator[str]:
    """List the relative names of all files below a folder."""

    def stop(error: OSError) -> None:
        raise error

    for inside, folders, names in os.walk(folder, onerror=stop):
        links = [name for name in folders if (Path(inside) / name).is_symlink()]
        yield from (Path(inside, name).relative_to(folder).as_posix() for name in names + links)


def _facts(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": file_digest(file)}


def _flush(file: Path) -> None:
    """Have a file or a folder on the disk itself."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
