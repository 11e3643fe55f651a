"""Work of others that may never come back."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from spark_trainer.errors import MachineError


class Aside:
    """Does one thing after the other in a thread of its own, and waits for each so long at most."""

    def __init__(self, name: str) -> None:
        self._due = SimpleQueue[tuple[Callable[[], Any], Future[Any]]]()
        # No process waits for a daemon when it ends.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def do(self, act: Callable[[], Any], seconds: float) -> Any:
        """Do it after what is being done already; returns what it returns.

        Raises:
            MachineError: it is not done after so many seconds; the thread goes on with it.
            Exception: whatever it raises.
        """
        done = Future[Any]()
        self._due.put((act, done))
        try:
            return done.result(seconds)
        except TimeoutError:
            if done.done():
                raise
            raise MachineError(f"not done after {seconds:g} s") from None

    def _work(self) -> None:
        while True:
            act, done = self._due.get()
            try:
                done.set_result(act())
            except BaseException as error:  # whoever waits is told
                done.set_exception(error)
