"""How a run is asked to stop: Ctrl-C, or SIGTERM as Slurm sends it when the time is up.

Whoever asks may send the same signal to a process from several sides at once (the terminal, Slurm,
the process that started it), so those within a second are one. A second Ctrl-C stops at once. So
does the first signal while there is nothing to save: while a model loads, an extension is compiled.
"""

import os
import signal
import time
from collections.abc import Callable

from spark_trainer.errors import MACHINE_STATUS, Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONE_SECOND = 1.0
INTERRUPTED = 128 + signal.SIGINT

# What the process ends with: after Ctrl-C nobody tries again, when the time was up somebody should.
STATUS: dict[int, int] = {signal.SIGTERM: MACHINE_STATUS, signal.SIGINT: INTERRUPTED}


def nothing_to_save(number: int) -> None:
    """Stop where a run is not yet at an update: the same command begins there again.

    Raises:
        Stopped: always.
    """
    raise Stopped("stopped before an update; the same command begins again", STATUS[number])


def last_is_saved(number: int) -> None:
    """Stop where all updates are made and saved: the same command begins with what is left.

    Raises:
        Stopped: always.
    """
    raise Stopped(
        "stopped after the last update, which is saved; the same command writes final/",
        STATUS[number],
    )


def wait_for_loop(number: int) -> None:
    """Do nothing: whoever is at work asks for the number, or is about to end."""


class Asked:
    """Hears signals from now on; `number` is the first that came, 0 before.

    Args:
        hear: called with each of them; may be set anew.
        at_once: called at the second Ctrl-C.
    """

    def __init__(
        self,
        hear: Callable[[int], object] = wait_for_loop,
        at_once: Callable[[], object] = lambda: os._exit(INTERRUPTED),
    ) -> None:
        self.number, self._since = 0, 0.0
        self.hear, self._at_once = hear, at_once
        self._before = {number: signal.signal(number, self._heard) for number in SIGNALS}

    def _heard(self, number: int, _: object) -> None:
        again = bool(self.number) and time.monotonic() - self._since > ONE_SECOND
        if not self.number:
            self.number, self._since = number, time.monotonic()
        if number == signal.SIGINT and again:
            self._at_once()
        self.hear(number)

    def forget(self) -> None:
        """Let signals do what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
