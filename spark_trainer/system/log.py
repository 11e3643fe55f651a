"""One log for a command and all its jobs.

The first process of a command names the file; its jobs find the name in the environment and append.
"""

import copy
import logging
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from spark_trainer.errors import unexpected
from spark_trainer.system.progress import PROGRESS_VARIABLE, of_job

LOG_VARIABLE = "SPARK_TRAINER_LOG"
TRACE = "trace"  # of a record: a trace as text, from another process

logger = logging.getLogger("spark_trainer")


class _Line(logging.Formatter):
    """A line that every stream accepts: bytes of a file name that are no text are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        text = "\n".join([super().format(record), *getattr(record, TRACE, "").splitlines()])
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _Short(_Line):
    """The same for a terminal, where an error is named and its trace is left to the files."""

    def format(self, record: logging.LogRecord) -> str:
        shown = copy.copy(record)
        shown.__dict__.pop(TRACE, None)
        if record.exc_info and record.exc_info[1]:
            text = f"{record.getMessage()}: {unexpected(record.exc_info[1])}"
            shown.msg, shown.args, shown.exc_info, shown.exc_text = text, (), None, None
        return super().format(shown)


def plain(text: str) -> str:
    """Return a text as one line, with control characters escaped: file names may hold any."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def name_file(root: Path = Path("runs/logs")) -> Path:
    """Choose `runs/logs/<time>/spark_trainer.log` for this command; its jobs inherit the name."""
    if LOG_VARIABLE not in os.environ:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = root / stamp
        number = 1
        while folder.exists():
            number += 1
            folder = root / f"{stamp}-{number}"
        os.environ[LOG_VARIABLE] = str((folder / "spark_trainer.log").resolve())
    return Path(os.environ[LOG_VARIABLE])


def start(command: str, job_log: Path | None = None) -> None:
    """Send log records to stderr, to the command's file, and to the job's own file."""
    logger.setLevel(logging.INFO)
    logger.propagate = False
    line = _Line("%(asctime)s %(levelname)s %(message)s")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    shown = PROGRESS_VARIABLE in os.environ  # by the command that started all of it
    handlers[0].setLevel(logging.WARNING if job_log or shown else logging.INFO)
    # Else a record that a full disk doesn't take would print a trace.
    logging.raiseExceptions = False
    for path in filter(None, [name_file(), job_log]):
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, encoding="utf-8", errors="backslashreplace"))
    if job_log:
        of_job(job_log)
    for handler in handlers:
        handler.setFormatter(line)
    said = "%(levelname)s: %(message)s" if shown else "%(asctime)s %(levelname)s %(message)s"
    handlers[0].setFormatter(_Short(said))
    logger.handlers = handlers
    logger.info("%s", command)


def keep(lines: Iterable[str]) -> None:
    """Add lines to the command's own file that stderr has shown already."""
    with open(name_file(), "a", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(f"{line}\n" for line in lines)


def started(command: str, job_log: Path | None = None) -> bool:
    """Tell whether this process logs to files, as a job of a build does, however early it ends."""
    if not logger.handlers and LOG_VARIABLE in os.environ:
        start(command, job_log)
    return bool(logger.handlers)


def failed(message: str, error: BaseException | None = None) -> None:
    """Log to the files alone why a command fails; the terminal gets the message as its last line.

    Args:
        message: the reason.
        error: the error whose trace is logged too.
    """
    logger.handlers = logger.handlers[1:]
    logger.error("%s", message, exc_info=error)


def facts(notes: Iterable[str] = ()) -> None:
    """Log what was said of the videos, the versions of their decoder, and this machine's GPUs."""
    import av

    from spark_trainer.system import gpu

    keep(notes)
    versions = (f"{name} {'.'.join(map(str, v))}" for name, v in av.library_versions.items())
    logger.info("PyAV %s: %s", av.__version__, ", ".join(versions))
    for device in gpu.devices():
        logger.info("gpu: %s", device)
    if not gpu.devices():
        logger.info("gpu: none")
