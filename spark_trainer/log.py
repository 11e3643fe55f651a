"""One log for a command and all its jobs, and progress that suits where it is shown.

The first process of a command names the file; its jobs find it in the environment and append.
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

LOG_VARIABLE = "SPARK_TRAINER_LOG"
PLAIN_SECONDS = 10.0  # between two plain progress lines

logger = logging.getLogger("spark_trainer")


class _Line(logging.Formatter):
    """A line that every stream takes: bytes of a file's name that are no text are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).encode("utf-8", "backslashreplace").decode("utf-8")


def plain(text: str) -> str:
    """The text in one line, what would steer a terminal spelled out: names hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def name_file(root: Path = Path("runs")) -> Path:
    """Choose `runs/<timestamp>/spark_trainer.log` for this command; its jobs inherit it."""
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
    handlers[0].setLevel(logging.WARNING if job_log else logging.INFO)
    # A record that can't be written, because the disk is full, would be a trace on the terminal.
    logging.raiseExceptions = False
    for path in filter(None, [name_file(), job_log]):
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.setFormatter(line)
    logger.handlers = handlers
    logger.info("%s", command)


def keep(lines: Iterable[str]) -> None:
    """Add lines that stderr has shown already to the command's own file."""
    with open(name_file(), "a", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(f"{line}\n" for line in lines)


def started(command: str, job_log: Path | None = None) -> bool:
    """Whether this process has files to log to; what a build started has, however early it ends."""
    if not logger.handlers and LOG_VARIABLE in os.environ:
        start(command, job_log)
    return bool(logger.handlers)


def failed(message: str, error: BaseException | None = None) -> None:
    """Log to the files alone why a command ends: what the terminal says comes last, without time.

    Args:
        message: why.
        error: whose trace is wanted as well.
    """
    logger.handlers = logger.handlers[1:]
    logger.error("%s", message, exc_info=error)


def facts() -> None:
    """Log by what videos are read, and which GPUs this machine has."""
    import av

    from spark_trainer import gpu

    versions = (f"{name} {'.'.join(map(str, v))}" for name, v in av.library_versions.items())
    logger.info("PyAV %s: %s", av.__version__, ", ".join(versions))
    for device in gpu.devices():
        logger.info("gpu: %s", device)
    if not gpu.devices():
        logger.info("gpu: none")


@contextlib.contextmanager
def progress(name: str, total: int, unit: str = "video") -> Iterator[Callable[[], object]]:
    """Yield a function to call after each item: a bar on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=name, unit=unit, file=sys.stderr) as bar:
            yield bar.update
        return
    done, last = 0, time.monotonic()

    def advance() -> None:
        nonlocal done, last
        done += 1
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            print(f"{name}: {done} of {total}", file=sys.stderr, flush=True)

    yield advance
