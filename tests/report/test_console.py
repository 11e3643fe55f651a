"""Ctrl-C ends Snakemake's process with a line, whenever it comes."""

import signal
import subprocess
import sys

ENDING = """\
import atexit, os, signal, sys, time
from spark_trainer.report import console

console.prepare_snakemake()
atexit.register(time.sleep, 0.2)  # an end that takes its time

def emit():
    os.kill(os.getpid(), signal.SIGINT)

emit()
sys.exit()
"""


def test_a_press_that_is_put_off_raises_nothing_while_the_process_ends() -> None:
    """In a handler of Snakemake's log it is raised a moment later, and the end may come first."""
    done = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr.startswith("interrupted; ")
    assert len(done.stderr.splitlines()) == 1
