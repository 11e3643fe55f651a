"""Training processes are started and ended together, with all that they started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from spark_trainer.errors import Stopped
from spark_trainer.train import processes, stop

STARTS_ANOTHER = """
import pathlib, subprocess, sys
other = subprocess.Popen(["sleep", "600"])
pathlib.Path(sys.argv[1]).write_text(str(other.pid))
sys.exit(3)
"""


def gone(number: int) -> bool:
    try:
        return bool(psutil.Process(number).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_nothing_that_a_process_started_is_left(tmp_path: Path) -> None:
    """A compiler, for instance, whose process failed or was stopped meanwhile."""
    note = tmp_path / "number"
    ending = processes.run([[sys.executable, "-c", STARTS_ANOTHER, str(note)]])
    assert ending.status == 3
    end = time.monotonic() + 10
    while not gone(int(note.read_text())) and time.monotonic() < end:
        time.sleep(0.05)
    assert gone(int(note.read_text()))


@pytest.mark.parametrize("number", stop.SIGNALS)
def test_a_signal_ends_what_there_is_nothing_to_save_of(number: signal.Signals) -> None:
    """It is heard while another program, such as a compiler, is waited for."""
    asked = stop.Asked(stop.nothing_to_save)
    program = f"sleep 0.3; kill -{int(number)} {os.getpid()}; exec sleep 600"
    began = time.monotonic()
    try:
        with pytest.raises(Stopped, match="the same command begins again") as stopped:
            subprocess.run(["sh", "-c", program], check=False)
    finally:
        asked.forget()
    assert time.monotonic() - began < 60
    assert stopped.value.status == stop.STATUS[number]
