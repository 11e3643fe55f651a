"""What a terminal sees of a process: any text, one line for what went wrong, no trace of Ctrl-C."""

import atexit
import contextlib
import functools
import io
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

from spark_trainer import config, log
from spark_trainer.errors import UserError, of_machine, told

INTERRUPTED = 130  # what shells call the end by Ctrl-C
MOMENT_SECONDS = 0.02
INTERRUPTION = "interrupted; what is finished stays, and the same command goes on from it"
SAME_PRESS_SECONDS = 1.0  # `uv run` and a terminal may both tell of one Ctrl-C
_ctrl_c: list[float] = []  # when it came


def say(text: str) -> None:
    """Print a line of ours to stderr, where that can still be written to."""
    with contextlib.suppress(OSError):
        print(f"spark_trainer: {text}", file=sys.stderr, flush=True)


def prepare_streams() -> None:
    """Let the streams take any text: file names are bytes, a stream may be closed or not UTF-8."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this process
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def prepare_snakemake() -> None:
    """Do the same for Snakemake's own process, and let Ctrl-C end it with a line, not with a trace.

    profiles/default calls it, which Snakemake reads before anything else of ours. A `--configfile`
    that can't be read is named here, because Snakemake names none, or shows a trace.
    """
    prepare_streams()
    sys.excepthook = _show
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _note)
        signal.signal(signal.SIGALRM, _note)
        # First, so that it comes last: a store is given back before.
        atexit.register(_end_interrupted)
    with one_line():
        for path in _config_files(sys.argv[1:]):
            if not config.mapping(path):
                raise config.ConfigError(f"{path}: expected keys (the file holds none)")


@contextlib.contextmanager
def one_line(before: str = "") -> Iterator[None]:
    """End this process with a line where the settings or the machine are in trouble.

    Args:
        before: what each line of it begins with.
    """
    try:
        if interrupted():
            raise KeyboardInterrupt
        yield
    except Exception as error:
        if not isinstance(error, UserError) and not of_machine(error):
            raise
        text = "\n".join(f"{before}{line}" for line in told(error).splitlines())
        if log.started("build"):
            log.failed(text)
        sys.exit(f"spark_trainer: {text}")


def interrupted() -> bool:
    """Whether Ctrl-C came; Snakemake may have caught it where it calls functions of ours."""
    return bool(_ctrl_c)


def say_last(text: str) -> None:
    """Print a line after all that Snakemake still has to say."""
    atexit.register(functools.partial(print, text, file=sys.stderr, flush=True))


def configuration() -> str:
    """Where Snakemake's configuration stands, as the user names it."""
    given = [str(path) for path in _config_files(sys.argv[1:])]
    return ", ".join(given) or "config/config.yaml"


def _config_files(words: list[str]) -> list[Path]:
    """The words after `--configfile` and after `--configfile=`."""
    found: list[Path] = []
    taking = False
    for word in words:
        option, _, value = word.partition("=")
        if word.startswith("-"):
            taking = option in ("--configfile", "--configfiles")
            word = value if taking else ""
        if taking and word:
            found.append(Path(word))
    return found


def _note(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if number == signal.SIGINT and _ctrl_c and now - _ctrl_c[-1] < SAME_PRESS_SECONDS:
        return
    if not _ctrl_c:  # where it strikes a loop of asyncio, closing that fails as well
        logging.getLogger("snakemake.logging").addFilter(_no_trace)
    _ctrl_c.append(now)
    # What writes Snakemake's log swallows it, so there it is raised a moment later.
    if any(one.f_code.co_name == "emit" for one, _ in traceback.walk_stack(frame)):
        signal.setitimer(signal.ITIMER_REAL, MOMENT_SECONDS)
    else:
        signal.default_int_handler(number, frame)


def _no_trace(record: logging.LogRecord) -> bool:
    return "Traceback (most recent call last)" not in record.getMessage()


def _end_interrupted() -> None:
    """Say at the very end that Ctrl-C came, if it did, and end as it ends a process."""
    if not _ctrl_c:
        return
    print(INTERRUPTION, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
