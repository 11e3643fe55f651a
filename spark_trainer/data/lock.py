"""The lock of an `output_dir`, for one build at a time: a file that names its holder.

A holder on this machine is dead when its process is. A holder on another machine touches the file
regularly; the file system's own clock tells how long ago that was.
"""

import argparse
import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from spark_trainer.data import files
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError, told
from spark_trainer.system import holder

CALL_VARIABLE = "SPARK_TRAINER_CALL"  # in all processes of a call: the name of its main process
BEAT_SECONDS = 20.0
STALE_SECONDS = 300.0
POLL_SECONDS = 0.5

# Options with which Snakemake runs no job.
NO_JOBS = (
    *("archive", "cleanup_metadata", "cleanup_shadow", "conda_cleanup_envs"),
    *("conda_create_envs_only", "container_cleanup_images", "containerize", "d3dag", "dag"),
    *("detailed_summary", "dryrun", "filegraph", "generate_unit_tests", "lint", "list_changes"),
    *("list_conda_envs", "list_input_changes", "list_params_changes", "list_rules"),
    *("list_target_rules", "list_untracked", "print_compilation", "rulegraph", "summary", "unlock"),
)


# Options with which it changes files of results, and makes none.
NO_RESULTS = ("delete_all_output", "delete_temp_output", "touch")

# The keys of a holder's file, and their types.
KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("process", "host", "command", "folder"), str),
    "pid": int,
    "since": (int, float),
    "behind": list,
}
LAST_DAY = 2.0**37  # seconds since 1970, in the year 6325


@dataclass(frozen=True)
class Holder:
    """The content of the file: a process, its command and folder, and since when it holds the lock.

    `behind` are the folders of killed calls before it that may have left jobs on a cluster.
    """

    process: str
    host: str
    pid: int
    command: str
    folder: str
    since: float
    behind: list[str]

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return (
            f"process {self.pid} on {self.host} ({self.command}, in {self.folder}, since {since})"
        )

    def gone(self, age: float) -> bool:
        """Tell whether it has ended, given the seconds since it last touched the file."""
        process = holder.parse(self.process)
        if process is None or process.here:
            return process is None or process.dead
        return age > STALE_SECONDS


def enter(layout: Layout, options: argparse.Namespace) -> list[Path]:
    """Lock a store if Snakemake is going to run jobs; unlock it for `--unlock`.

    Args:
        layout: paths of the store.
        options: Snakemake's command line.

    Returns:
        As `hold`; an empty list where no job will run.

    Raises:
        UserError: another build is running there, or the store can't be written.
    """
    if options.unlock:
        clear(layout.lock)
    if not runs_jobs(options):
        return []
    try:
        left = hold(layout.lock)
    except OSError as error:
        raise UserError(f"output_dir: {layout.root} can't be written: {told(error)}") from None
    layout.sweep()
    return left


def runs_jobs(options: argparse.Namespace) -> bool:
    """Tell whether Snakemake's command line asks for anything that runs jobs."""
    only_report = options.report and not options.report_after_run
    return not only_report and not any(getattr(options, name) for name in NO_JOBS)


def builds(options: argparse.Namespace) -> bool:
    """Tell whether Snakemake's command line asks for results."""
    return runs_jobs(options) and not any(getattr(options, name) for name in NO_RESULTS)


def hold(path: Path) -> list[Path]:
    """Hold the lock until this process ends; first wait for processes that killed calls left.

    Returns:
        The folders of killed calls that may have left jobs on a cluster.

    Raises:
        UserError: another process holds it.
    """
    ours = _ours()
    new = [folder for folder in path.parents[:2] if not folder.exists()]
    os.environ[CALL_VARIABLE] = ours.process
    while True:
        with _opened(path) as descriptor:
            before = _read(descriptor)
            age = files.age(path)
            if before and not before.gone(age):
                raise UserError(_refusal(path, before, age))
            left = _processes(before.process) if before else []
            if not left:
                ours.behind.extend(_inherited(before, ours))
                with files.naming(path):
                    _write(descriptor, ours)
                break
        _wait(before, left)
    if before:
        shutil.rmtree(Path(before.folder) / ".snakemake/locks", ignore_errors=True)
        _say(f"taking over from {before}, which was killed")
    atexit.register(_release, path, ours, new)
    threading.Thread(target=_beat, args=(path, ours), daemon=True).start()
    return [Path(folder) for folder in ours.behind]


def holder_of(path: Path) -> Holder | None:
    """Return who holds the lock, if anybody does; nothing is written."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found, touched = _read(descriptor), os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
    return found if found and not found.gone(time.time() - touched) else None


def another(path: Path) -> Holder | None:
    """Return who holds the lock, unless it is the call that this process belongs to."""
    found = holder_of(path)
    return found if found and found.process != os.environ.get(CALL_VARIABLE) else None


def clear(path: Path) -> None:
    """Free the lock, whoever holds it: the user says that no build is running."""
    with _opened(path) as descriptor:
        if before := _read(descriptor):
            _say(f"unlocked: it was held by {before}")
        path.unlink()


def _ours() -> Holder:
    command = f"snakemake {' '.join(sys.argv[1:])}"[:200]
    return Holder(
        str(holder.this()), socket.gethostname(), os.getpid(), command, os.getcwd(), time.time(), []
    )


def _refusal(path: Path, before: Holder, age: float) -> str:
    process = holder.parse(before.process)
    text = f"{path.parents[1]} is in use by {before}; expected one build at a time"
    if process and process.here:
        return f"{text}; wait for it, or stop it (the same command with --unlock frees it by force)"
    return (
        f"{text}; its last sign of life was {age:.0f} s ago, and it counts as gone after "
        f"{STALE_SECONDS:.0f} s without one; if you know that it is: the same command with --unlock"
    )


def _inherited(before: Holder | None, ours: Holder) -> list[str]:
    known = [*before.behind, before.folder] if before else []
    return [folder for folder in dict.fromkeys(known) if folder != ours.folder]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open the file for reading and writing, locked where the file system can lock."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> Holder | None:
    """Read who holds the lock; None where the file was cut by a kill, or holds something else.

    A later version may write more keys.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        content = json.loads(os.read(descriptor, 1 << 16))
        values = {name: content[name] for name in KINDS}
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    right = all(isinstance(values[name], kind) for name, kind in KINDS.items())
    if not right or not all(isinstance(folder, str) for folder in values["behind"]):
        return None
    return Holder(**values) if 0 <= values["since"] < LAST_DAY else None


def _write(descriptor: int, ours: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(ours)).encode(), 0)
    os.fsync(descriptor)


def _release(path: Path, ours: Holder, new: list[Path]) -> None:
    """Release the lock, and remove the folders that were made for it if they are empty."""
    if str(holder.this()) != ours.process:  # a process forked from it
        return
    with contextlib.suppress(OSError):
        with _opened(path) as descriptor:
            if _read(descriptor) == ours:
                path.unlink()
        for folder in new:
            folder.rmdir()


def _beat(path: Path, ours: Holder) -> None:
    """Touch the file regularly; stop this process where another has taken the lock over."""
    while True:
        time.sleep(BEAT_SECONDS)
        with contextlib.suppress(OSError), _opened(path) as descriptor:
            now = _read(descriptor)
            if now == ours:
                os.utime(path)
            elif now:  # otherwise another is writing it, or the user has freed it
                _say(f"stopping: this process was taken for gone by {now}")
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _processes(call: str) -> list[int]:
    """List the processes of a call that still run on this machine.

    Those of another Slurm job are left out: Slurm is asked about them.
    """
    found, job = [], os.environ.get("SLURM_JOB_ID", "")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "environ").read_bytes().split(b"\0")
            values = dict(word.partition(b"=")[::2] for word in words)
            same_job = values.get(b"SLURM_JOB_ID", b"").decode(errors="replace") == job
            if values.get(CALL_VARIABLE.encode()) == call.encode() and same_job:
                found.append(int(folder.name))
    return sorted(set(found) - {os.getpid(), os.getppid()})


def _wait(before: Holder | None, left: list[int]) -> None:
    """Wait for the processes that a killed call left: they still write to the store."""
    pids = " ".join(map(str, left))
    _say(f"waiting for what is left of {before}, which was killed; to start it anew: kill {pids}")
    while before and _processes(before.process):
        time.sleep(POLL_SECONDS)


def _say(text: str) -> None:
    print(f"spark_trainer: {text}", file=sys.stderr, flush=True)
