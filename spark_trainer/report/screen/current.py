"""The one build that a process shows, and what is common to all ways of showing it."""

import abc
import atexit
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from spark_trainer.report.screen.board import Board, Row
from spark_trainer.report.screen.watch import Watch

SETTLING_SECONDS = 1.0  # Snakemake's last messages come from another thread


class Screen(abc.ABC):
    """A build that is shown, from the first job to the last.

    Args:
        stats: the jobs that are due, by rule.
        folder: where jobs tell how far they are.
    """

    TICK_SECONDS = 0.5

    def __init__(self, stats: Mapping[str, int], folder: Path) -> None:
        self.board = Board()
        self.board.plan(stats)
        self._watch: Watch | None = None
        with contextlib.suppress(OSError):  # it can't be written: jobs show it themselves
            self._watch = Watch(folder)
        self._lock, self._over = threading.RLock(), threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()

    def start(self, job: int, rule: str) -> None:
        """Take the beginning of a job."""
        with self._lock:
            self.board.start(job, rule)

    def finish(self, job: int) -> None:
        """Take the end of a job."""
        with self._lock:
            self._hear()
            if row := self.board.finish(job):
                self.ended(row)

    def fail(self, job: int, logs: list[str]) -> None:
        """Take the failure of a job."""
        with self._lock:
            if row := self.board.fail(job):
                where = f"; see {', '.join(logs)}" if logs else ""
                self.say(f"{row.name}: a job failed{where}")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    @abc.abstractmethod
    def draw(self) -> None:
        """Show where the build stands."""

    @abc.abstractmethod
    def ended(self, row: Row) -> None:
        """Show that a step has ended."""

    def end(self) -> None:
        """Show the build no more."""
        waited = time.monotonic() + SETTLING_SECONDS
        while any(row.running for row in self.board.rows.values()) and time.monotonic() < waited:
            time.sleep(0.02)
        self._over.set()
        self._thread.join()
        with self._lock:
            self._hear()
            if self._watch:
                self._watch.end()

    def _hear(self) -> None:
        for line in self._watch.lines() if self._watch else ():
            self.board.tell(line)

    def _tick(self) -> None:
        while not self._over.wait(self.TICK_SECONDS):
            with self._lock:
                self._hear()
                self.draw()


_now: list[Screen] = []
_when_idle: list[Callable[[], object]] = []
_expected, _all = threading.Event(), threading.Event()


def say_all() -> None:
    """Say all that Snakemake says: this call builds nothing."""
    _all.set()


def says_all() -> bool:
    """Tell whether all is said that Snakemake says."""
    return _all.is_set()


def expect() -> None:
    """Tell that messages of Snakemake will begin a build that is shown."""
    _expected.set()


def settle() -> None:
    """Wait until the build is shown, if it will be: the messages come by another thread."""
    waited = time.monotonic() + SETTLING_SECONDS
    while _expected.is_set() and not _now and time.monotonic() < waited:
        time.sleep(0.01)


def submits() -> None:
    """Tell that the jobs of the build that is shown are submitted to a cluster."""
    for build in _now:
        build.board.submits = True


def begin(build: Screen) -> None:
    """Show a build from now on."""
    if not _now:
        atexit.register(end)
    _now.append(build)


def end() -> None:
    """Show the build no more, if one is shown: what is printed now comes below it."""
    while _now:
        _now.pop().end()


def say(line: str) -> None:
    """Print a line, above what is shown."""
    if _now:
        _now[-1].say(line)
    else:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)


def when_idle(call: Callable[[], object]) -> None:
    """Have a function called where Snakemake finds nothing to do."""
    _when_idle[:] = [call]


def idle() -> None:
    """Say that there is nothing to do."""
    for call in _when_idle:
        call()
