"""A record names the packages that something was made with; a process knows its share of CPUs."""

import os
from importlib import metadata
from pathlib import Path

import pytest

from spark_trainer.system import environment


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
