"""Writes checkpoints beside the loop: updates go on while the disk works.

A thread of each process writes its files, one checkpoint after the other; it holds Python's lock
neither while it writes nor while it hashes. The threads meet by the store through which the
processes have found each other: collectives of theirs would mix with those of the loop.
"""

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch.distributed.distributed_c10d import Store, _get_default_store

from spark_trainer.data.files import write_json
from spark_trainer.errors import MachineError, SparkTrainerError, told
from spark_trainer.runs.folder import RunFolder
from spark_trainer.system import log
from spark_trainer.train import checkpoints
from spark_trainer.train.nest import Snapshot

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 5.0  # with the others, once the loop of this process has failed


class _GaveUp(SparkTrainerError):
    """The loop of this process has failed, and the others don't say whether they have written."""


@dataclass(frozen=True)
class Pending:
    """A checkpoint that is not yet written, as one process holds it."""

    folder: RunFolder
    run_id: str
    step: int
    files: dict[Path, Snapshot]  # this process's
    facts: dict[str, Any]  # for `step.json`
    best: Path  # the checkpoint that is kept however old
    keep: int  # and so many of the newest

    def write(self) -> None:
        """Write this process's files."""
        for path, snapshot in self.files.items():
            snapshot.write(path)

    def complete(self) -> None:
        """Make a checkpoint of what all processes have written, and delete what is too old."""
        temporary = self.folder.checkpoints / checkpoints.WRITING
        write_json(temporary / checkpoints.STEP, self.facts)
        checkpoints.commit(temporary, self.step, self.run_id)
        checkpoints.rotate(self.folder, self.keep, self.best)

    def abandon(self, error: Exception) -> MachineError:
        """Give back the space; returns what to say."""
        return checkpoints.abandon(self.folder, self.step, error)


class Writer:
    """Writes what one process holds of checkpoints, one at a time; all must make the same calls.

    Leaving it as a context waits for what it writes, whatever happened.
    """

    def __init__(self, process: int, num_processes: int, store: Store | None) -> None:
        """Write as one of several processes, which share a new store; one alone needs none."""
        self._process, self._num_processes, self._store = process, num_processes, store
        self._work: Future[None] | None = None
        self._until = math.inf  # by the clock of `time.monotonic`

    @classmethod
    def of_this_process(cls, process: int, num_processes: int) -> Self:
        """Return the writer of this process of a run."""
        return cls(process, num_processes, _get_default_store() if num_processes > 1 else None)

    @property
    def failed(self) -> bool:
        """Tell whether waiting would raise."""
        return bool(self._work and self._work.done() and self._work.exception())

    def start(self, pending: Pending) -> None:
        """Begin to write; what was begun before has been waited for."""
        assert self._work is None
        pool = ThreadPoolExecutor(1, "checkpoint")
        self._work = pool.submit(self._write, pending)
        pool.shutdown(wait=False)

    def wait(self) -> None:
        """Wait until what was begun is a checkpoint.

        Raises:
            MachineError: it can't be written, by this process or another.
        """
        work, self._work = self._work, None
        if work:
            work.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:  # one of the others may be gone, and answer never
            self._until = time.monotonic() + PATIENCE_SECONDS
        try:
            self.wait()
        except Exception as own:
            if error is None:
                raise
            log.logger.error("%s", own)

    def _write(self, pending: Pending) -> None:
        try:
            self._together(f"checkpoint {pending.step}: parts", pending.write)
            self._together(f"checkpoint {pending.step}", pending.complete, alone=True)
        except (OSError, MachineError) as error:
            raise pending.abandon(error) from None

    def _together(self, key: str, work: Callable[[], None], alone: bool = False) -> None:
        """Work, the main process only where it does so `alone`, and wait for the others.

        Raises:
            Exception: the work's own.
            MachineError: another process failed.
        """
        failure: Exception | None = None
        try:
            if self._process == 0 or not alone:
                work()
        except Exception as error:
            failure = error
        reasons = self._exchange(key, told(failure) if failure else None)
        if failure:
            raise failure
        if reason := next(filter(None, reasons), None):
            raise MachineError(reason)

    def _exchange(self, key: str, reason: str | None) -> list[str | None]:
        """Return why each process failed, as soon as all have said so; None for those that didn't.

        Asked again and again: the store answers nobody else of a process that waits for a key.

        Raises:
            _GaveUp: see there; what they write stays where it is.
        """
        if self._store is None:
            return [reason]
        keys = [f"{key} {process}" for process in range(self._num_processes)]
        self._store.set(keys[self._process], json.dumps(reason))
        while not self._store.check(keys):
            if time.monotonic() > self._until:
                raise _GaveUp(f"{key}: the other processes don't say that they have written it")
            time.sleep(POLL_SECONDS)
        return [json.loads(self._store.get(one)) for one in keys]
