"""Jobs that Slurm still runs for an earlier call, before the next one submits the same again."""

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from spark_trainer.errors import MachineError, UserError
from spark_trainer.system import log

POLL_SECONDS = 5.0
NOT_ENDED = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING"

_OF_SNAKEMAKE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


@dataclass(frozen=True)
class Job:
    """A job in the queue; `task` is Snakemake's comment: the rule, and the shard or run."""

    id: str
    task: str

    def __str__(self) -> str:
        return f"{self.id} ({self.task})"


def left(*folders: Path) -> list[Job]:
    """List the jobs of earlier calls in these folders that have not ended yet.

    Raises:
        UserError: there is no Slurm here.
        MachineError: Slurm does not answer.
    """
    if not shutil.which("squeue"):
        raise UserError(
            "no squeue on the PATH: jobs can be sent from where Slurm is; else no --profile slurm"
        )
    command = ["squeue", "--me", "--noheader", f"--states={NOT_ENDED}", "--format=%i|%j|%k|%Z"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise MachineError(f"squeue: {' '.join(answer.stderr.split())}")
    places = {os.path.realpath(folder) for folder in folders}
    fields = (line.split("|", 3) for line in answer.stdout.splitlines())
    return [
        Job(number, task)
        for number, name, task, place in fields
        if _OF_SNAKEMAKE.search(name) and os.path.realpath(place) in places
    ]


def wait(*folders: Path) -> None:
    """Wait for the jobs that killed calls left: they still write to the store."""
    announced: set[Job] = set()
    while jobs := left(*folders):
        if set(jobs) != announced:
            shown = ", ".join(map(str, jobs))
            text = "waiting for jobs of an earlier call: %s; to start them anew: scancel %s"
            log.logger.warning(text, shown, " ".join(job.id for job in jobs))
            announced = set(jobs)
        time.sleep(POLL_SECONDS)
