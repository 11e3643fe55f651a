"""Jobs that are cancelled, that outlive the call that sent them, that run out of memory."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.workflow.conftest import Workspace

from .conftest import Job, Submitting, ask, keeps_accounts, outcome, until

pytestmark = pytest.mark.slurm


def running(workspace: Submitting, rule: str) -> list[Job]:
    """Its jobs of a rule that are at work now."""
    return [job for job in workspace.submitted(rule) if job.state == "RUNNING"]


@pytest.mark.parametrize("status", ["squeue", pytest.param("sacct", marks=pytest.mark.long)])
def test_a_cancelled_job_is_sent_again(
    status: str, fresh: Submitting, local: tuple[Workspace, dict[str, str]]
) -> None:
    if status == "sacct":
        keeps_accounts()
    fresh.edit("cluster.yaml", r"^status: \w+", f"status: {status}")
    place = fresh.place("dog")
    call = fresh.start(f"out/{place}/frames.json")
    (victim,) = until(lambda: running(fresh, "frames"))
    log = Path(victim.facts["StdOut"])
    until(lambda: log.exists() and log.stat().st_size)
    ask("scancel", victim.id)
    _, errors = call.communicate()
    assert call.returncode == 0, errors
    assert [job.state for job in fresh.submitted()] == ["CANCELLED", "COMPLETED"]
    assert fresh.digests() == {path: d for path, d in local[1].items() if path.startswith(place)}
    assert log.is_relative_to(fresh.folder / "logs/slurm")
    assert str(log) in errors
    assert log.exists()


def test_a_killed_call_is_taken_up(
    fresh: Submitting, local: tuple[Workspace, dict[str, str]]
) -> None:
    """Its jobs go on; the next call waits for them and does nothing twice."""
    call = fresh.start("manifest")
    orphan = until(lambda: running(fresh, "frames_shard"))[0]
    ask("scontrol", "suspend", orphan.id)
    os.killpg(call.pid, signal.SIGKILL)
    call.communicate()
    call = fresh.start("manifest")
    until(lambda: f"waiting for jobs of an earlier call: {orphan.id} (" in fresh.logs())
    ask("scontrol", "resume", orphan.id)
    _, errors = call.communicate()
    assert call.returncode == 0, errors
    assert fresh.digests() == local[1]
    made = re.findall(r"frames b\S+: .*\"ok\":(\d+)", fresh.logs())
    assert sum(map(int, made)) == 3


def test_who_ran_out_of_memory_gets_more(fresh: Submitting) -> None:
    """80 MB are too few for any job; what the second attempt asks for is the profile's to say."""
    fresh.edit("config.yaml", r"^(  mem_mb): 4000 \* attempt", r"\1: 80 * attempt ** 5")
    outcome(fresh, f"out/{fresh.place('dog')}/frames.json")
    first, second = fresh.submitted()
    assert (first.state, first.asked["mem"]) == ("FAILED", "80M")
    assert "exceeded memory limit" in Path(first.facts["StdOut"]).read_text(encoding="utf-8")
    assert (second.state, second.asked["mem"]) == ("COMPLETED", "2.50G")
