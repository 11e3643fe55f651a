"""What starts a run's processes: on one machine, or through Slurm on each of several nodes."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spark_trainer import gpu
from spark_trainer.config import Run
from spark_trainer.train import group

SLURM_JOB = "SLURM_JOB_ID"
PORTS = range(15000, 30000)  # below those that Linux gives out by itself


@dataclass(frozen=True)
class Place:
    """Where a run's processes go: so many `processes` on each of `nodes`, each on a device."""

    nodes: int
    processes: int
    device: str

    @property
    def total(self) -> int:
        return self.nodes * self.processes


@dataclass(frozen=True)
class Meeting:
    """Where the processes of several nodes find each other, and which node this is."""

    node: int
    address: str
    port: int


def srun(place: Place, folder: Path, threads: int) -> list[str]:
    """What starts `on_node` on every node of the allocation.

    Without `--cpu-bind=none` its processes would share one core of what the job has.
    """
    nodes = str(place.nodes)
    options = ["--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1", "--overlap"]
    options += ["--cpus-per-task", str(threads), "--kill-on-bad-exit=1", "--cpu-bind=none"]
    if place.device == "cuda":
        options += ["--gpus-per-node", str(place.processes)]
    node = ["-m", "spark_trainer", "node", "--folder", str(folder.absolute())]
    return ["srun", *options, sys.executable, *node, "--threads", str(threads)]


def meeting() -> Meeting:
    """Where this job's nodes meet, as Slurm tells each of its tasks."""
    listed = os.environ["SLURM_JOB_NODELIST"]
    first = _scontrol("show", "hostnames", listed).split()[0]
    told = re.search(r"\bNodeAddr=(\S+)", _scontrol("show", "node", first))
    job = int(os.environ[SLURM_JOB])
    port = PORTS[job % len(PORTS)]
    return Meeting(int(os.environ["SLURM_NODEID"]), told[1] if told else first, port)


def _scontrol(*question: str) -> str:
    return subprocess.run(
        ["scontrol", *question], capture_output=True, text=True, check=True
    ).stdout


def start(
    program: Sequence[str],
    run: Run,
    place: Place,
    threads: int,
    lease: gpu.Lease | None,
    lock: int | None = None,
    meeting: Meeting | None = None,
) -> group.Ending:
    """Start the processes of this node and wait for their end.

    Args:
        program: what Python gets.
        run: the settings.
        place: where the processes go.
        threads: cores that they may use together.
        lease: the GPUs.
        lock: what holds the run's folder.
        meeting: where those of several nodes meet.
    """
    variables = {"OMP_NUM_THREADS": str(max(1, threads // place.processes))}
    # A GPU that was not granted would be taken where it is seen.
    variables |= lease.environment if lease else {gpu.VISIBLE_VARIABLE: ""}
    places: list[dict[str, str]] = [{}]
    if place.total > 1 or run.sharded:
        where = (meeting.address, meeting.port) if meeting else None
        places = group.places(place.processes, meeting.node if meeting else 0, place.nodes, where)
    held = [*(lease.descriptors if lease else ()), *([] if lock is None else [lock])]
    return group.run(
        [[sys.executable, *program]] * len(places), [variables | one for one in places], held
    )
