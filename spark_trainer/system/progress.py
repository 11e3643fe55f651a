"""How far a job is: told to the command that started it, or shown by the job itself."""

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from spark_trainer.system import holder

PROGRESS_VARIABLE = "SPARK_TRAINER_PROGRESS"  # the file of the command that shows it
TOLD_SECONDS = 0.5  # between two lines of that file
PLAIN_SECONDS = 10.0  # between two lines on a stream that is no terminal

_number = itertools.count()
_job: list[str] = []  # the log of this process's job: the same when it is tried again


def of_job(job_log: Path) -> None:
    """Say by its log which job this process belongs to."""
    _job[:] = [str(job_log)]


class Advance(Protocol):
    """What a job calls after each item; a note is shown beside the count."""

    def __call__(self, note: str = "") -> object: ...


@contextlib.contextmanager
def progress(name: str, total: int, unit: str = "video", done: int = 0) -> Iterator[Advance]:
    """Show how many items are done.

    Under a command that shows all of its jobs, lines of a file tell it; else a bar on a terminal,
    or plain lines.

    Args:
        name: of the step, and behind a slash of a part of it.
        total: items in all.
        unit: what an item is.
        done: items that are done already.
    """
    shown = os.environ.get(PROGRESS_VARIABLE)
    if shown:
        with _told(Path(shown), name, total, unit, done) as advance:
            yield advance
    elif sys.stderr.isatty():
        with _bar(name, total, unit, done) as advance:
            yield advance
    else:
        yield _lines(name, total, done)


@contextlib.contextmanager
def _told(path: Path, name: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    process = f"{holder.this()}-{next(_number)}"
    who = {"job": _job[0] if _job else process, "process": process, "name": name, "unit": unit}
    noted, last = "", 0.0

    def tell() -> None:
        nonlocal last
        last = time.monotonic()
        line = who | {"done": done, "total": total, "note": noted}
        with contextlib.suppress(OSError):  # the command ended, or the disk is full
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, f"{json.dumps(line)}\n".encode())
            finally:
                os.close(descriptor)

    def advance(note: str = "") -> None:
        nonlocal done, noted
        done, noted = done + 1, note or noted
        if time.monotonic() - last >= TOLD_SECONDS:
            tell()

    tell()
    try:
        yield advance
    finally:
        tell()


@contextlib.contextmanager
def _bar(name: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    from tqdm import tqdm

    with tqdm(total=total, desc=name, unit=unit, initial=done, file=sys.stderr) as bar:

        def advance(note: str = "") -> None:
            if note:
                bar.set_postfix_str(note, refresh=False)
            bar.update()

        yield advance


def _lines(name: str, total: int, done: int) -> Advance:
    last = time.monotonic()

    def advance(note: str = "") -> None:
        nonlocal done, last
        done += 1
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            behind = f", {note}" if note else ""
            print(f"{name}: {done} of {total}{behind}", file=sys.stderr, flush=True)

    return advance
