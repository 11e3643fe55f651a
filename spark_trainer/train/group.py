"""The training processes of one node: started, told of signals, ended together.

Started here and not by `accelerate launch` or torch's launcher: those listen on every network
interface, leave processes behind when they are told to end, and turn every exit status into 1 below
a trace. What the processes find in their environment is the same.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spark_trainer import environment
from spark_trainer.train.stop import Asked

WORDS_VARIABLE = "SPARK_TRAINER_WORDS"  # folder in which each process leaves why it ended
STORE_VARIABLE = "SPARK_TRAINER_STORE"  # file by which the processes of one node meet
LOOPBACK = "127.0.0.1"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
POLL_SECONDS = 0.05
BY_SIGNAL = 128  # and its number: the status of a process that a signal ended
GRACE_SECONDS = 20.0  # for the others after one has failed


@dataclass(frozen=True)
class Ending:
    """How the processes ended: a status as a shell has it, and what the first to fail said."""

    status: int
    words: str
    asked: int  # the signal by which they were asked to stop, or 0


def run(
    commands: Sequence[Sequence[str]],
    places: Sequence[dict[str, str]] = ({},),
    held: Sequence[int] = (),
) -> Ending:
    """Run commands side by side and wait for all.

    Signals are passed on. When one process fails, the others are asked to stop, then killed.

    Args:
        commands: one for each process.
        places: what each finds in its environment.
        held: descriptors that the processes inherit.
    """
    with tempfile.TemporaryDirectory(prefix="spark_trainer_") as folder:
        told = {
            WORDS_VARIABLE: folder,
            STORE_VARIABLE: f"{folder}/store",
            environment.PARENT_VARIABLE: str(os.getpid()),
        }
        started: list[subprocess.Popen[bytes]] = []
        # SIGTERM for Ctrl-C as well: srun takes the other for a question.
        asked = Asked(
            lambda _: _tell(started, signal.SIGTERM), lambda: _tell(started, signal.SIGKILL)
        )
        try:
            for command, place in zip(commands, places, strict=True):
                started.append(_start(command, os.environ | told | place, held))
            if asked.number:  # before all of them could hear it
                _tell(started, signal.SIGTERM)
            failed = _wait(started)
        finally:
            _tell(started, signal.SIGKILL)
            for process in started:
                process.wait()
            asked.forget()
        if failed is None:
            return Ending(0, "", asked.number)
        status = failed.returncode
        words = _words(Path(folder), failed.pid)
        return Ending(BY_SIGNAL - status if status < 0 else status, words, asked.number)


def _start(
    command: Sequence[str], variables: dict[str, str], held: Sequence[int]
) -> "subprocess.Popen[bytes]":
    """In a session of its own: Ctrl-C reaches it through this process, once."""
    return subprocess.Popen(command, env=variables, pass_fds=held, start_new_session=True)


def _tell(started: Sequence["subprocess.Popen[bytes]"], number: int) -> None:
    for process in started:
        process.send_signal(number)


def _wait(started: Sequence["subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes] | None":
    """Wait for all; returns the first that failed."""
    first, end = None, float("inf")
    while any([process.poll() is None for process in started]) and time.monotonic() < end:  # noqa: C419
        if first is None and (first := _failed(started)):
            end = time.monotonic() + GRACE_SECONDS
            _tell(started, signal.SIGTERM)
        time.sleep(POLL_SECONDS)
    return first or _failed(started)


def _failed(started: Sequence["subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes] | None":
    """One that failed, first of all one that was killed: the others fail because it is gone."""
    failed = [process for process in started if process.returncode]
    return min(failed, key=lambda process: process.returncode > 0, default=None)


def places(
    processes: int, node: int = 0, nodes: int = 1, meeting: tuple[str, int] | None = None
) -> list[dict[str, str]]:
    """What each process of a node finds: its place, and where it meets those of other nodes."""
    address, port = meeting or (LOOPBACK, 0)
    shared = {"WORLD_SIZE": str(processes * nodes), "LOCAL_WORLD_SIZE": str(processes)}
    shared |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
    if meeting is None and sys.platform == "linux":
        shared |= {name: os.environ.get(name, "lo") for name in INTERFACES}
    return [
        shared | {"RANK": str(node * processes + local), "LOCAL_RANK": str(local)}
        for local in range(processes)
    ]


def say(words: str) -> bool:
    """Leave why this process ends for the one that started it; False where none listens."""
    folder = os.environ.get(WORDS_VARIABLE)
    if folder is None:
        return False
    (Path(folder) / str(os.getpid())).write_text(words, encoding="utf-8")
    return True


def _words(folder: Path, process: int) -> str:
    path = folder / str(process)
    return path.read_text(encoding="utf-8") if path.exists() else ""
