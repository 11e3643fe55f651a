"""The training processes of one node: started, told of signals, ended together.

Started here and not by `accelerate launch` or torch's launcher: those listen on every network
interface, leave processes behind when they are told to end, and turn every exit status into 1 below
a trace. What the processes find in their environment is the same.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spark_trainer.config import Run
from spark_trainer.system import environment, gpu
from spark_trainer.train.stop import Asked
from spark_trainer.train.topology import STORE_VARIABLE, Rendezvous, Topology

REASONS_VARIABLE = "SPARK_TRAINER_REASONS"  # folder in which each process leaves why it ended
ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # torch reads either
POLL_SECONDS = 0.05
BY_SIGNAL = 128  # and its number: the status of a process that a signal ended
GRACE_SECONDS = 20.0  # for the others after one has failed


@dataclass(frozen=True)
class Ending:
    """How the processes ended: a status as a shell has it, and what the first to fail said."""

    status: int
    reason: str
    asked: int  # the signal by which they were asked to stop, or 0


def start(
    program: Sequence[str],
    settings: Run,
    topology: Topology,
    threads: int,
    lease: gpu.Lease | None,
    lock: int | None = None,
    rendezvous: Rendezvous | None = None,
) -> Ending:
    """Start the processes of this node and wait for their end.

    Args:
        program: the arguments of Python.
        settings: those of the run.
        topology: where the processes go.
        threads: cores that they may use together.
        lease: the GPUs.
        lock: what holds the run's folder.
        rendezvous: where those of several nodes meet.
    """
    variables = {"OMP_NUM_THREADS": str(max(1, threads // topology.processes))}
    # A GPU that was not granted would be taken where it is seen.
    variables |= lease.environment | _allocator() if lease else {gpu.VISIBLE_VARIABLE: ""}
    environments: list[dict[str, str]] = [{}]
    if topology.world_size > 1 or settings.sharded:
        environments = topology.environments(rendezvous)
    held = [*(lease.descriptors if lease else ()), *([] if lock is None else [lock])]
    commands = [[sys.executable, *program]] * len(environments)
    return run(commands, [variables | one for one in environments], held)


def _allocator() -> dict[str, str]:
    """Let a GPU's memory grow in place, unless the user says how it is taken.

    Rows are of many lengths, and pieces of many sizes leave gaps that no other fits into.
    """
    if any(name in os.environ for name in ALLOCATOR_VARIABLES):
        return {}
    return {ALLOCATOR_VARIABLES[0]: "expandable_segments:True"}


def srun(topology: Topology, folder: Path, threads: int) -> list[str]:
    """Return the command that starts `launch.on_node` on every node of the allocation.

    Without `--cpu-bind=none` its processes would share one core of what the job has.
    """
    nodes = str(topology.nodes)
    options = ["--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1", "--overlap"]
    options += ["--cpus-per-task", str(threads), "--kill-on-bad-exit=1", "--cpu-bind=none"]
    if topology.device == "cuda":
        options += ["--gpus-per-node", str(topology.processes)]
    node = ["-m", "spark_trainer", "node", "--folder", str(folder.absolute())]
    return ["srun", *options, sys.executable, *node, "--threads", str(threads)]


def run(
    commands: Sequence[Sequence[str]],
    environments: Sequence[dict[str, str]] = ({},),
    held: Sequence[int] = (),
) -> Ending:
    """Run commands side by side and wait for all.

    Signals are passed on. When one process fails, the others are asked to stop, then killed.

    Args:
        commands: one for each process.
        environments: what each finds in its environment.
        held: descriptors that the processes inherit.
    """
    with tempfile.TemporaryDirectory(prefix="spark_trainer_") as folder:
        shared = {
            REASONS_VARIABLE: folder,
            STORE_VARIABLE: f"{folder}/store",
            environment.PARENT_VARIABLE: str(os.getpid()),
        }
        started: list[subprocess.Popen[bytes]] = []
        # SIGTERM for Ctrl-C as well: srun takes the other for a question.
        asked = Asked(lambda _: _signal(started, signal.SIGTERM), lambda: _kill(started))
        try:
            for command, variables in zip(commands, environments, strict=True):
                started.append(_start(command, os.environ | shared | variables, held))
            if asked.number:  # before all of them could hear it
                _signal(started, signal.SIGTERM)
            failed = _wait(started)
        finally:
            _kill(started)
            for process in started:
                process.wait()
            asked.forget()
        if failed is None:
            return Ending(0, "", asked.number)
        status = failed.returncode
        reason = _reason(Path(folder), failed.pid)
        return Ending(BY_SIGNAL - status if status < 0 else status, reason, asked.number)


def report(reason: str) -> bool:
    """Leave why this process ends for the one that started it; False where none listens."""
    folder = os.environ.get(REASONS_VARIABLE)
    if folder is None:
        return False
    (Path(folder) / str(os.getpid())).write_text(reason, encoding="utf-8")
    return True


def _start(
    command: Sequence[str], variables: dict[str, str], held: Sequence[int]
) -> "subprocess.Popen[bytes]":
    """Start a command in a session of its own: Ctrl-C reaches it through this process, once."""
    return subprocess.Popen(command, env=variables, pass_fds=held, start_new_session=True)


def _signal(started: Sequence["subprocess.Popen[bytes]"], number: int) -> None:
    for process in started:
        process.send_signal(number)


def _kill(started: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Kill processes and what they started: a compiler would go on in a folder of DeepSpeed's."""
    for process in started:
        with contextlib.suppress(ProcessLookupError):  # nobody of its group is left
            os.killpg(process.pid, signal.SIGKILL)


def _wait(started: Sequence["subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes] | None":
    """Wait for all; returns the first that failed."""
    first, end = None, float("inf")
    while any([process.poll() is None for process in started]) and time.monotonic() < end:  # noqa: C419
        if first is None and (first := _failed(started)):
            end = time.monotonic() + GRACE_SECONDS
            _signal(started, signal.SIGTERM)
        time.sleep(POLL_SECONDS)
    return first or _failed(started)


def _failed(started: Sequence["subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes] | None":
    """Return one that failed, best one that was killed: the others fail because it is gone."""
    failed = [process for process in started if process.returncode]
    return min(failed, key=lambda process: process.returncode > 0, default=None)


def _reason(folder: Path, process: int) -> str:
    path = folder / str(process)
    return path.read_text(encoding="utf-8") if path.exists() else ""
