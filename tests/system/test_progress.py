"""How far a job is, on a terminal, on other streams, and under a command that shows it."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from spark_trainer.system import progress

TWO = (
    "from spark_trainer.system.progress import progress\n"
    "with progress('frames', 40, done=38) as advance:\n    advance()\n    advance('loss 0.5')\n"
)


def test_plain_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with progress.progress("frames", 40, done=38) as advance:
        advance()
        advance("loss 0.5")
    assert capsys.readouterr().err == "frames: 39 of 40\nframes: 40 of 40, loss 0.5\n"


def test_a_bar_on_a_terminal() -> None:
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    subprocess.run([sys.executable, "-c", TWO], stderr=terminal, check=True)
    os.close(terminal)
    read = b""
    with contextlib.suppress(OSError):  # what it wrote comes in pieces, and then this
        while piece := os.read(master, 10_000):
            read += piece
    os.close(master)
    shown = read.decode()
    assert "frames" in shown
    assert "100%" in shown
    assert "40/40" in shown
    assert "loss 0.5" in shown


def test_lines_of_a_file_under_a_command_that_shows_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "progress"
    path.touch()
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, str(path))
    subprocess.run([sys.executable, "-c", TWO], check=True)
    first, *_, last = map(json.loads, path.read_text().splitlines())
    assert (first["name"], first["unit"]) == ("frames", "video")
    assert (first["done"], first["total"]) == (38, 40)
    assert (last["job"], last["done"], last["note"]) == (first["job"], 40, "loss 0.5")
    path.unlink()  # the command has ended, and the job goes on
    subprocess.run([sys.executable, "-c", TWO], check=True)
    assert not path.exists()
    assert capfd.readouterr().err == ""
