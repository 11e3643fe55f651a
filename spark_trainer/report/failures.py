"""Notes on a build's jobs: a file beside its log for each that is running or has failed.

A job that is killed leaves its file without a message. There is a file for each job because the
jobs of a cluster write at the same time, and a network disk can't append for several writers.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from spark_trainer.data import files
from spark_trainer.data.files import digest, read_json, write_json
from spark_trainer.errors import MACHINE_STATUS, SparkTrainerError

_FINGERPRINT = re.compile(r"\.[0-9a-f]{16}$")
KILLED = "ended without a message: it was killed, or its machine went down"


@dataclass(frozen=True)
class Job:
    """A job: its own log, and its exit status and message once it has failed."""

    log: str
    status: int | None = None
    message: str = KILLED

    @property
    def name(self) -> str:
        """Return the step and the shard, such as `frames b01.0123456789abcdef`."""
        _, *folders, file = Path(self.log).with_suffix("").parts
        return " ".join([*folders, _FINGERPRINT.sub("", file)])


class Hopeless(SparkTrainerError):
    """An earlier attempt of this job failed in a way that another one can't mend."""

    def __init__(self, before: Job) -> None:
        super().__init__(f"not tried again: {before.message}")
        self.status = before.status or 1


_mine: list[tuple[Path, Job]] = []


def sweep(runs: Path) -> None:
    """Remove half-written files that killed jobs of earlier builds left beside their logs."""
    for folder in runs.glob("*/jobs"):
        files.sweep(folder)


def begin(folder: Path, log: Path) -> None:
    """Note that this process runs a job of a build.

    Args:
        folder: the folder of the build's log.
        log: the job's own log, which tells it from others.

    Raises:
        Hopeless: it failed before in this build, and that was not the machine's trouble.
    """
    path = folder / "jobs" / f"{digest(str(log))[:16]}.json"
    if path.exists() and (before := Job(**read_json(path))).status not in (None, MACHINE_STATUS):
        raise Hopeless(before)
    job = Job(str(log))
    _mine.append((path, job))
    write_json(path, asdict(job))


def end(status: int, message: str) -> None:
    """Note why this process's job failed; a job that is done leaves no file."""
    for path, job in _mine:
        if message:
            write_json(path, asdict(replace(job, status=status, message=message)))
        else:
            path.unlink(missing_ok=True)
    _mine.clear()


def left(folder: Path, logs: Iterable[str]) -> list[Job]:
    """List the failed jobs of a build, those with a message first, by time.

    Args:
        folder: the folder of the build's log.
        logs: the logs of the jobs that failed; a job that was killed at its start left no note.
    """
    paths = sorted((folder / "jobs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    jobs = {job.log: job for job in (Job(**read_json(path)) for path in paths)}
    jobs |= {log: Job(log) for log in logs if log not in jobs}
    return sorted(jobs.values(), key=lambda job: job.status is None)
