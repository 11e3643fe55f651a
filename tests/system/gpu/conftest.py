"""A machine of one's own: its leases, its driver, and processes that hold GPUs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.system.gpu import driver, leases, registry

ROOT = Path(__file__).resolve().parents[3]

HOLD = """
import json, os, sys
from spark_trainer.system import gpu
with gpu.lease(**json.loads(sys.argv[1])) as lease:
    print(json.dumps(lease.environment), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No driver, no device, no lease; returns the folder of executables, the only one."""
    for name in (
        *(driver.VISIBLE_VARIABLE, leases.ORDER_VARIABLE),
        *(leases.HELD_VARIABLE, registry.JOB_VARIABLE),
    ):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(registry.FOLDER_VARIABLE, str(tmp_path / "leases"))
    return folder


@pytest.fixture
def install(machine: Path) -> Callable[[str, str], None]:
    """Install an `nvidia-smi` that prints the first text for `-L`, else the second one."""

    def install(listing: str, rows: str) -> None:
        (machine / "listing").write_text(listing)
        (machine / "rows").write_text(rows)
        script = machine / "nvidia-smi"
        script.write_text(
            '#!/bin/sh\ncase "$1" in\n'
            f"-L) exec /bin/cat '{machine}/listing' ;;\n"
            f"--query-gpu=*) exec /bin/cat '{machine}/rows' ;;\n"
            "*) exit 2 ;;\nesac\n"
        )
        script.chmod(0o755)

    return install


class Process:
    """A process that holds a lease until it is told to end."""

    def __init__(self, wanted: dict[str, Any], environment: dict[str, str], errors: Path) -> None:
        self._errors = errors
        with open(errors, "w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", HOLD, json.dumps(wanted)],
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.pid = self.process.pid

    @property
    def said(self) -> str:
        """What it has written to stderr so far."""
        return self._errors.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        """Wait until it has written this to stderr."""
        until(lambda: words in self.said)

    def environment(self) -> dict[str, str]:
        """What its lease exports; waits until it has one."""
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def devices(self) -> str:
        """Its `CUDA_VISIBLE_DEVICES`; waits until it has a lease."""
        return self.environment()["CUDA_VISIBLE_DEVICES"]

    def end(self) -> str:
        """Let it release its lease and exit; returns what it wrote to stderr."""
        self.process.communicate()
        assert self.process.returncode == 0, self.said
        return self.said


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a process that leases; keywords are those of `lease`."""
    started: list[Process] = []

    def start(environment: dict[str, str] | None = None, **wanted: Any) -> Process:
        errors = tmp_path / f"errors{len(started)}"
        started.append(Process(wanted, environment or {}, errors))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
