"""A benchmark that hangs ends after a while, with all that it started, and is told of."""

import importlib
import sys
import time
from pathlib import Path
from types import ModuleType

import psutil
import pytest

HANGING = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {name!r}])
print("begun", flush=True)
time.sleep(600)
"""


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return importlib.import_module("run")


def below(name: str) -> list[psutil.Process]:
    """The living processes that are told this name."""
    return [one for one in psutil.process_iter(["cmdline"]) if name in (one.info["cmdline"] or ())]


def test_a_smoke_run_that_hangs_is_ended(run: ModuleType, tmp_path: Path) -> None:
    name, began = str(tmp_path), time.monotonic()
    command = [sys.executable, "-c", HANGING.format(name=name)]
    said, status = run.smoke(command, limit_s=6)  # Python itself takes part of it
    assert time.monotonic() - began < 60
    assert status != 0
    assert said == "begun\n\nstopped: it took more than 6 s\n"
    end = time.monotonic() + 60
    while below(name):  # a killed process lives until it is its turn once more
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_that_ends_says_how(run: ModuleType) -> None:
    said, status = run.smoke([sys.executable, "-c", "print('done'); raise SystemExit(3)"])
    assert (said, status) == ("done\n", 3)
