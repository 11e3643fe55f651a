"""Where the processes of a run go, and how they find each other.

Light on purpose: the command line reads this module.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Self

SLURM_JOB = "SLURM_JOB_ID"
STORE_VARIABLE = "SPARK_TRAINER_STORE"  # file by which the processes of one node meet
LOOPBACK = "127.0.0.1"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
PORTS = range(15000, 30000)  # below those that Linux gives out by itself


@dataclass(frozen=True)
class Rendezvous:
    """The address at which the processes of several nodes meet, and the number of this node."""

    node: int
    address: str
    port: int

    @classmethod
    def of_slurm_job(cls) -> Self:
        """Return where the nodes of this job meet, as Slurm tells each of its tasks."""
        listed = os.environ["SLURM_JOB_NODELIST"]
        first = _scontrol("show", "hostnames", listed).split()[0]
        told = re.search(r"\bNodeAddr=(\S+)", _scontrol("show", "node", first))
        job = int(os.environ[SLURM_JOB])
        port = PORTS[job % len(PORTS)]
        return cls(int(os.environ["SLURM_NODEID"]), told[1] if told else first, port)


def sharing(samples: int, nodes: int, most: int) -> int:
    """Return how many processes of each node share the samples of an update evenly, `most` of all.

    0 where the nodes alone can't.
    """
    return max((n for n in range(1, most + 1) if not samples % (n * nodes)), default=0)


@dataclass(frozen=True)
class Topology:
    """How many nodes a run has, how many processes each of them, and on which kind of device."""

    nodes: int
    processes: int  # on each node
    device: str  # cuda or cpu

    @property
    def world_size(self) -> int:
        """Count the processes on all nodes."""
        return self.nodes * self.processes

    def environments(self, rendezvous: Rendezvous | None = None) -> list[dict[str, str]]:
        """Return the variables by which each process of a node finds its rank and the others.

        Args:
            rendezvous: where several nodes meet; those of a single node meet on it.
        """
        node = rendezvous.node if rendezvous else 0
        shared = {"WORLD_SIZE": str(self.world_size), "LOCAL_WORLD_SIZE": str(self.processes)}
        shared["MASTER_ADDR"] = rendezvous.address if rendezvous else LOOPBACK
        shared["MASTER_PORT"] = str(rendezvous.port if rendezvous else 0)
        if rendezvous is None and sys.platform == "linux":
            shared |= {name: os.environ.get(name, "lo") for name in INTERFACES}
        return [
            shared | {"RANK": str(node * self.processes + local), "LOCAL_RANK": str(local)}
            for local in range(self.processes)
        ]


def _scontrol(*question: str) -> str:
    return subprocess.run(
        ["scontrol", *question], capture_output=True, text=True, check=True
    ).stdout
