"""A record names the packages that something was made with; a process knows its share of CPUs."""

import multiprocessing
import os
import py_compile
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

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


def test_a_worker_passes_on_that_it_is_asked_to_stop() -> None:
    """But for what its parent itself asks: torch does so where a worker is slow to end."""
    heard = list[int]()
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_work, args=(ready,))
    try:
        worker.start()
        assert ready.wait(20)
        os.kill(worker.pid or 0, signal.SIGTERM)
        _until(lambda: not _waits(worker.pid, signal.SIGTERM))  # two that wait would be one
        time.sleep(0.2)
        assert not heard
        subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
        _until(lambda: heard)
        assert heard == [signal.SIGTERM]
        assert worker.is_alive()
    finally:
        worker.kill()
        worker.join()
        signal.signal(signal.SIGTERM, before)


def _until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def _waits(process: int | None, number: signal.Signals) -> bool:
    """Tell whether a process has been sent a signal that none of its threads has taken yet."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    [mask] = [line.split()[1] for line in lines if line.startswith("ShdPnd:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def _work(ready: Any) -> None:
    environment.work_on(0)
    ready.set()
    time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
@pytest.mark.parametrize(("how", "again"), [("kept", False), ("given back", True)])
def test_memory_that_is_kept_is_not_asked_for_again(how: str, again: bool) -> None:
    """Of the second 100 MB no page is new to the process."""
    said = subprocess.run([sys.executable, "-c", AGAIN, how], capture_output=True, check=True)
    assert (int(said.stdout) > 10_000) == again


@pytest.mark.parametrize("compiled", [False, True])
def test_bytecode_is_kept_where_it_is_forbidden(tmp_path: Path, compiled: bool) -> None:
    """In a cache of its own, unless the packages are installed compiled."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("")
    if compiled:
        py_compile.compile(str(tmp_path / "torch/__init__.py"))
    code = """
import os, subprocess, sys
from spark_trainer.system import environment
environment.keep_bytecode()
subprocess.run([sys.executable, "-c", "import torch"], check=True)
import torch
    """
    given = {"PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    path = f"{tmp_path}:{Path(environment.__file__).parents[2]}"
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **given, "PYTHONPATH": path}, check=True
    )
    kept = [file.name for file in (tmp_path / "cache").rglob("torch/*.pyc")]
    assert bool(kept) != compiled
    assert (tmp_path / "torch/__pycache__").exists() == compiled
