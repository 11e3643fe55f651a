"""A process on a terminal: any text can be printed, errors and Ctrl-C are one line, not a trace."""

import atexit
import contextlib
import functools
import importlib
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from spark_trainer import config
from spark_trainer.errors import UserError, of_machine, told
from spark_trainer.system import log

INTERRUPTED = 130  # what shells call the end by Ctrl-C
SCREEN = "snakemake_logger_plugin_spark_trainer"
MOMENT_SECONDS = 0.02
GOES_ON = "what is finished stays, and the same command goes on from it"
SAME_PRESS_SECONDS = 1.0  # `uv run` and a terminal may both send a signal for one Ctrl-C
_ctrl_c: list[float] = []  # times at which it came
_sigterm = threading.Event()


def say(text: str) -> None:
    """Print a line of SparkTrainer to stderr, if that can still be written to."""
    with contextlib.suppress(OSError):
        print(f"spark_trainer: {text}", file=sys.stderr, flush=True)


def prepare_streams() -> None:
    """Let streams accept any text: file names are bytes, a stream may be closed or not UTF-8."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this process
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def prepare_snakemake() -> None:
    """Do the same for Snakemake's own process, and let Ctrl-C end it with a line, not with a trace.

    It is called by profiles/default, the first file of this project that Snakemake reads. Where a
    `--configfile` can't be read, the error names it; Snakemake's own doesn't, or is a trace.
    """
    prepare_streams()
    module = importlib.import_module("spark_trainer.report.screen.handler")
    LoggerPluginRegistry().register_plugin(SCREEN, module)
    sys.excepthook = _show
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):
        signal.signal(signal.SIGINT, _note)
        signal.signal(signal.SIGALRM, _note)
        # Registered first, so it is called last: after the store's lock is released.
        atexit.register(_end_stopped)
    with one_line():
        for path in _config_files(sys.argv[1:]):
            if not config.mapping(path):
                raise config.ConfigError(f"{path}: expected keys (the file holds none)")


@contextlib.contextmanager
def one_line(before: str = "") -> Iterator[None]:
    """End this process with a message where the settings or the machine cause an error.

    Args:
        before: beginning of each line of the message.
    """
    try:
        if interrupted():
            signal.setitimer(signal.ITIMER_REAL, 0)  # what `_note` put off is raised here
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
    """Tell whether Ctrl-C came; Snakemake may have caught it where it calls our functions."""
    return bool(_ctrl_c)


def stopped() -> bool:
    """Tell whether Ctrl-C or SIGTERM came, so that jobs that end now have not failed."""
    return interrupted() or _sigterm.is_set()


def hear_sigterm() -> None:
    """Note a SIGTERM before Snakemake, which then starts no other job, hears of it."""
    before = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        _sigterm.set()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, note)


def say_last(text: str) -> None:
    """Print a line at the very end, after Snakemake's own."""
    atexit.register(functools.partial(print, text, file=sys.stderr, flush=True))


def configuration() -> str:
    """Return the names of Snakemake's configuration files, as the user gave them."""
    given = [str(path) for path in _config_files(sys.argv[1:])]
    return ", ".join(given) or "config/config.yaml"


def _config_files(words: list[str]) -> list[Path]:
    """List the words after `--configfile` and after `--configfile=`."""
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
    if not _ctrl_c:  # interrupting a loop of asyncio makes closing that fail too
        logging.getLogger("snakemake.logging").addFilter(_no_trace)
        # A press may be put off, and the process end meanwhile: then nothing is left to stop.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
    _ctrl_c.append(now)
    # Snakemake's log handlers swallow KeyboardInterrupt, so in them it is raised a moment later.
    if any(one.f_code.co_name == "emit" for one, _ in traceback.walk_stack(frame)):
        signal.setitimer(signal.ITIMER_REAL, MOMENT_SECONDS)
    else:
        signal.default_int_handler(number, frame)


def _no_trace(record: logging.LogRecord) -> bool:
    return "Traceback (most recent call last)" not in record.getMessage()


def _end_stopped() -> None:
    """Say at the very end that a signal came, if one did, and end with its exit status."""
    if not stopped():
        return
    number, said = signal.SIGTERM, "stopped by SIGTERM"
    if _ctrl_c:
        number, said = signal.SIGINT, "interrupted"
    with contextlib.suppress(OSError):
        print(f"{said}; {GOES_ON}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
