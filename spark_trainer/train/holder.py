"""One holder of a run folder at a time; the kernel lets go of it when its processes are dead.

The lock is on a file of the folder, and every process of the run inherits it: while one of them
lives, even after its parents were killed, nobody else trains there. The file says who holds it.
"""

import contextlib
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator

from spark_trainer.errors import UserError
from spark_trainer.runs.folder import RunFolder

PATIENCE_SECONDS = 10.0  # for processes that are about to end
PAUSE_SECONDS = 0.1


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[int]:
    """Hold a run folder; yields the descriptor that the run's processes inherit.

    Raises:
        UserError: another holds it; the message names host, process and command.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.holder, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(descriptor, folder)
        told = {"host": socket.gethostname(), "pid": os.getpid(), "command": sys.argv}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(told).encode(), 0)
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: RunFolder) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                who = _who(os.pread(descriptor, 1 << 16, 0))
                raise UserError(f"{folder} is being trained by {who}; wait for it") from None
            time.sleep(PAUSE_SECONDS)
        else:
            return


def _who(told: bytes) -> str:
    try:
        value = json.loads(told)
        command = " ".join(value["command"])
        return f"process {value['pid']} on {value['host']} ({command})"
    except (KeyError, TypeError, ValueError):
        return "a process that has not said who it is"
