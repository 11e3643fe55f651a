"""A record names the packages that something was made with; a process knows its share of CPUs."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from spark_trainer.system import environment

AGAIN = """
import resource
import sys

from spark_trainer.system import environment

if sys.argv[1] == "kept":
    environment.keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(100_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


def test_what_is_not_installed_is_left_out() -> None:
    found = environment.versions(["numpy", "no-such-package", "torch"])
    assert list(found.items()) == [(name, metadata.version(name)) for name in ("numpy", "torch")]


def test_a_process_may_use_its_share_of_the_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(environment, "CPU_QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for name in (environment.SLURM_CPUS, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert environment.cpus() == 64
    quota.write_text("max 100000\n")
    assert environment.cpus() == 64
    quota.write_text("3200000 100000\n")
    assert environment.cpus() == 32
    monkeypatch.setenv(environment.SLURM_CPUS, "24")
    assert environment.cpus() == 24
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert environment.cpus() == 3


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
@pytest.mark.parametrize(("how", "again"), [("kept", False), ("given back", True)])
def test_memory_that_is_kept_is_not_asked_for_again(how: str, again: bool) -> None:
    """Of the second 100 MB no page is new to the process."""
    said = subprocess.run([sys.executable, "-c", AGAIN, how], capture_output=True, check=True)
    assert (int(said.stdout) > 10_000) == again
