"""What starts a run's processes: on one machine, or through Slurm on each of several nodes."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from spark_trainer import gpu
from spark_trainer.config import Run

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


def command(
    run: Run, place: Place, program: list[str], meeting: Meeting | None = None
) -> list[str]:
    """What starts the processes of one node.

    `accelerate launch` starts several processes on a CPU through MPI alone, and a single one
    without the group that a run whose model is shared out needs: there it is torch's own launcher,
    which `accelerate launch` uses for several GPUs as well.

    Args:
        run: the settings.
        place: where the processes go.
        program: what Python runs in each.
        meeting: where those of several nodes meet.
    """
    several = place.total > 1
    if (several and place.device == "cpu") or (not several and run.sharded):
        options = ["--nproc_per_node", str(place.processes)]
        if meeting is None:
            options += ["--standalone"]
        else:
            options += ["--nnodes", str(place.nodes), "--node_rank", str(meeting.node)]
            options += ["--master_addr", meeting.address, "--master_port", str(meeting.port)]
        return [sys.executable, "-m", "torch.distributed.run", *options, *program]
    if not run.use_accelerate:
        return [sys.executable, *program]
    options = ["--num_processes", str(place.total), "--num_machines", str(place.nodes)]
    options += ["--dynamo_backend", "no", "--mixed_precision", run.mixed_precision]
    options += ["--cpu"] if place.device == "cpu" else []
    options += ["--multi_gpu"] if several else []
    # Without it the ids of a user's own accelerate configuration would replace the leased ones.
    options += ["--gpu_ids", "all"] if place.device == "cuda" else []
    if meeting is not None:
        options += ["--machine_rank", str(meeting.node), "--main_process_ip", meeting.address]
        options += ["--main_process_port", str(meeting.port), "--rdzv_backend", "static"]
    return [sys.executable, "-m", "accelerate.commands.launch", *options, *program]


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


def start(program: list[str], place: Place, threads: int, lease: gpu.Lease | None) -> int:
    """Start the processes of this node and wait for their end."""
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, threads // place.processes))}
    # A GPU that was not granted would be taken where it is seen.
    environment |= lease.environment if lease else {gpu.VISIBLE_VARIABLE: ""}
    held = lease.descriptors if lease else ()
    return subprocess.run(program, env=environment, pass_fds=held, check=False).returncode
