"""What a user sees of a build: on a terminal, in a pipe, where a job fails."""

import codecs
import os
import pty
import re
import signal
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import REPO, Workspace

CUT = bytes(1000)
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def fresh(tmp_path: Path) -> Workspace:
    """A real clip, and a file that is no video under a name that would colour the terminal."""
    workspace = Workspace(tmp_path)
    workspace.add("dog", (REPO / "config/demo/clips/dog.mp4").read_bytes())
    workspace.add("\x1b[31mred", CUT)
    return workspace


def as_users_do(workspace: Workspace) -> dict[str, str]:
    environment = workspace.environment()
    del environment["SPARK_TRAINER_SCREEN"]
    return environment | {"TERM": "xterm"}


class Terminal:
    """A command at work on a terminal of its own, and all that it writes there."""

    def __init__(
        self, workspace: Workspace, *words: str, size: tuple[int, int] = (40, 100), **more: str
    ) -> None:
        self._master, inside = pty.openpty()
        termios.tcsetwinsize(inside, size)
        self.text = ""
        self.process = subprocess.Popen(
            workspace.command(*words),
            cwd=workspace.folder,
            env=as_users_do(workspace) | more,
            stdout=inside,
            stderr=inside,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        os.close(inside)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a piece may end in a letter
        try:
            while new := os.read(self._master, 65_536):
                self.text += decoder.decode(new)
        except OSError:  # all of its writers have ended
            pass

    def wait_for(self, sign: str) -> None:
        end = time.monotonic() + 60
        while sign not in self.text:
            assert time.monotonic() < end, self.text
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the status, and the text without what moves the cursor."""
        status = self.process.wait(timeout=120)
        self._reader.join(timeout=120)  # jobs that outlive the command write to the terminal, too
        assert not self._reader.is_alive()
        os.close(self._master)
        return status, CONTROL.sub("", self.text)


def test_a_panel_on_a_terminal(fresh: Workspace) -> None:
    status, text = Terminal(fresh, "manifest").end()
    assert status == 0, text
    last = text[text.rindex("✓  frames") :]
    assert re.search(r"✓  frames +2 videos in \d+ s", last)
    assert re.search(r"✓  audio +2 videos in \d+ s", last)
    assert re.search(r"✓  manifest +\d jobs in \d+ s", last)
    assert "1 contents in 1 files" in last  # the summary stands below
    assert "\\x1b[31mred.mp4" in last
    assert "WARNING: frames" in text
    assert "localrule" not in text
    assert "\x1b[31m" not in text
    [kept] = (fresh.folder / ".snakemake/log").iterdir()
    assert "localrule frames_shard" in kept.read_text()
    assert not list((fresh.folder / ".snakemake").glob("progress-*"))

    status, text = Terminal(fresh, "manifest").end()
    assert status == 0
    assert re.search(r"Nothing to be done.*\n +manifest  .*out/manifest_v1.jsonl", text)


DRIVER = """#!/bin/sh
case "$1" in
-L) echo 'GPU 0: Made Up (UUID: GPU-a)'; echo 'GPU 1: Made Up (UUID: GPU-b)' ;;
*) echo 'Unable to determine the device handle for GPU 7'
   echo '0, Made Up, 1000, 400, 37, 1.0, GPU-a'; echo '1, Made Up, 1000, 5, 0, 1.0, GPU-b' ;;
esac
"""


@pytest.mark.parametrize("more", [{"TERM": "dumb"}, {"PYTHONIOENCODING": "latin-1"}])
def test_lines_on_a_terminal_that_can_draw_no_panel(fresh: Workspace, more: dict[str, str]) -> None:
    status, text = Terminal(fresh, "manifest", **more).end()
    assert status == 0, text
    assert re.search(r"^frames: 2 videos in \d+ s\r$", text, re.MULTILINE)


def test_a_narrow_terminal_and_gpus(fresh: Workspace, tmp_path: Path) -> None:
    """Marks and names stay, the rest is folded; GPUs are those that jobs may use."""
    driver = tmp_path / "bin/nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(DRIVER)
    driver.chmod(0o755)
    path = f"{driver.parent}:{os.environ['PATH']}"
    made = Terminal(fresh, "manifest", size=(30, 24), PATH=path, CUDA_VISIBLE_DEVICES="0")
    status, text = made.end()
    assert status == 0, text
    assert "✓  frames    2 videos in" in text
    assert "GPU 0: 37 %" in " ".join(text.split())
    assert "GPU 1" not in text


def test_what_only_answers_has_no_rows(fresh: Workspace) -> None:
    status, text = Terminal(fresh, "plan").end()
    assert status == 0
    assert "dog.mp4 added" in text
    assert "✓" not in text


def test_lines_in_a_pipe_and_snakemakes_own_text_where_it_is_asked_for(fresh: Workspace) -> None:
    def call(*words: str, **more: str) -> str:
        done = subprocess.run(
            fresh.command(*words),
            cwd=fresh.folder,
            env=as_users_do(fresh) | more,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout + done.stderr

    assert "rule frames_shard" in call("-n", "manifest")
    text = call("manifest")
    assert re.search(r"^frames: 2 videos in \d+ s$", text, re.MULTILINE)
    assert "\x1b" not in text
    assert "localrule" not in text
    fresh.configure("frames", frame_rate=2)
    assert "localrule frames_shard" in call("manifest", SPARK_TRAINER_SCREEN="off")
    fresh.configure("frames", frame_rate=1)
    assert "localrule frames_shard" in call("manifest", "--printshellcmds")
    assert "Report created" in call("manifest", "--report", "steps.html")
    assert "Report created" in call("manifest", "--report", "steps.html", "--report-after-run")
    fresh.configure("frames", frame_rate=2)
    assert "localrule frames_shard" in call("manifest", "--touch")


def test_a_job_that_fails_is_named_with_its_log(fresh: Workspace) -> None:
    blocked = fresh.output / fresh.place("dog")
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder is due")
    status, text = Terminal(fresh, "manifest").end()
    assert status == 1
    assert 1 <= len(re.findall(r"frames: a job failed; see logs/frames/", text)) <= 2
    assert re.search(r"✗  frames", text)
    assert text.rstrip().splitlines()[-1].startswith("failed: ")
    assert "CalledProcessError" not in text


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "stopped by SIGTERM")]
)
def test_a_signal_leaves_the_terminal_as_it_was(
    fresh: Workspace, number: signal.Signals, said: str
) -> None:
    terminal = Terminal(fresh, "manifest", "--cores", "1")
    terminal.wait_for("0 of 2 videos")
    terminal.process.send_signal(number)
    status, text = terminal.end()
    assert status == -number
    assert "Traceback" not in text
    assert "failed" not in text
    assert "did not complete" not in text
    assert text.rstrip().splitlines()[-1].startswith(f"{said}; what is finished stays")
    assert terminal.text.count("\x1b[?25l") <= terminal.text.count("\x1b[?25h")


def test_jobs_that_outlive_the_command_go_on(fresh: Workspace) -> None:
    terminal = Terminal(fresh, "manifest")
    terminal.wait_for("time")
    terminal.process.kill()
    status, _ = terminal.end()
    assert status == -signal.SIGKILL
    [left] = (fresh.folder / ".snakemake").glob("progress-*")
    assert fresh.build("manifest") is not None
    status, _ = Terminal(fresh, "manifest", "--forcerun", "manifest_join").end()
    assert status == 0
    assert not left.exists()
