"""The lease files, which tell who holds which GPU; the kernel unlocks them when their holders die.

There is one file for each lease and device, locked (flock, shared) by all processes that hold the
lease. Files are read and made only under the lock of their folder, so a file that nobody locks
belongs to a dead holder and is removed.
"""

import contextlib
import fcntl
import json
import os
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER_VARIABLE = "SPARK_TRAINER_GPU_LEASES"
JOB_VARIABLE = "SLURM_JOB_ID"
SUFFIX = ".lease"
EVERYBODY = 0o1777  # all users may add files, each may remove their own


@dataclass(frozen=True)
class Holder:
    """The content of a lease file; `since` in seconds since 1970, `job` is Slurm's job id."""

    device: str
    fraction: float
    pid: int
    what: str
    host: str
    since: float
    job: str | None

    def __str__(self) -> str:
        reason = f" ({self.purpose})" if self.what else ""
        return f"{self.device}: {self.fraction:g} by process {self.pid} for {self.age}{reason}"

    @property
    def purpose(self) -> str:
        """Return what the device is held for, safe to print whoever wrote it."""
        return self.what if self.what.isprintable() else json.dumps(self.what)

    @property
    def age(self) -> str:
        """Return how long the device has been held: `42 s`, `7 min`, `3 h 5 min`."""
        seconds = max(0, int(time.time() - self.since))
        if seconds < 60:
            return f"{seconds} s"
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def folder() -> Path:
    """Return the folder of leases: `SPARK_TRAINER_GPU_LEASES`, else one that all users share."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given).absolute() if given else Path(tempfile.gettempdir()) / "spark_trainer_gpus"


def make_folder() -> Path:
    """Make the folder of leases if it is missing; the shared one is opened to all users."""
    path = folder()
    if os.environ.get(FOLDER_VARIABLE):
        path.mkdir(parents=True, exist_ok=True)
        return path
    path.mkdir(exist_ok=True)
    facts = path.stat()
    if facts.st_uid == os.geteuid() and stat.S_IMODE(facts.st_mode) != EVERYBODY:
        path.chmod(EVERYBODY)
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    descriptor = _lock(path)
    try:
        yield
    finally:
        # Closing alone would leave the lock to a child that another thread forked meanwhile.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def living(path: Path) -> list[Holder]:
    """List the living holders of this Slurm job, or outside of any, the oldest first.

    The caller holds the lock. Inside a job an index may count from the job's first device, so jobs
    are kept apart. Files of dead holders are removed, except those of other users.
    """
    found = [_probe(file) for file in sorted(path.glob(f"*{SUFFIX}"))]
    ours = [holder for holder in found if holder and holder.job == job()]
    return sorted(ours, key=lambda holder: holder.since)


def _probe(file: Path) -> Holder | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with open(descriptor, "rb", closefd=False) as stream:
            return _parse(stream.read())
    else:
        with contextlib.suppress(OSError):
            file.unlink()
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return None
    finally:
        os.close(descriptor)


def _parse(content: bytes) -> Holder | None:
    try:
        holder = Holder(**json.loads(content))
        return holder if holder.fraction > 0 and str(holder) else None
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None


def write(path: Path, device: str, fraction: float, what: str) -> tuple[Path, int]:
    """Make and lock a lease file, and return it and its descriptor; the caller holds the lock."""
    file = path / f"{os.getpid()}-{secrets.token_hex(8)}{SUFFIX}"
    holder = Holder(device, fraction, os.getpid(), what, socket.gethostname(), time.time(), job())
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(json.dumps(asdict(holder)).encode())
    except BaseException:
        os.close(descriptor)
        raise
    return file, descriptor


def adopt(file: Path) -> int:
    """Lock a lease file as one more holder, and return a descriptor of it.

    Raises:
        FileNotFoundError: its holders are dead.
    """
    with locked(file.parent):
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def job() -> str | None:
    """Return the id of the Slurm job that this process belongs to."""
    return os.environ.get(JOB_VARIABLE) or None
