"""Stopping a run: every process hears it, its last update is saved, nothing stays behind."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from spark_trainer.data.layout import Layout
from spark_trainer.runs.spec import RunSpec
from spark_trainer.system import gpu
from spark_trainer.train import holder, launch

from .conftest import metrics, train, write_run

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU"),
]
SLOW = {"batch_size": 2, "global_batch_size": 4, "max_steps": 12, "eval_steps": 6}
ALONE = {**SLOW, "num_workers": 1}
LISTENS = psutil.CONN_LISTEN
WAYS = {"one": {}, "two": {"cpu_processes": 2}}


def start(made: RunSpec, state: Path, **options: Any) -> psutil.Popen:
    """The command that a rule runs."""
    path = made.write(Layout(state))
    command = [sys.executable, "-m", "spark_trainer", "fit", "--spec", str(path), "--gpus", "0"]
    command += ["--threads", "1", "--data", str(made.settings.manifest_path)]
    return psutil.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def until(holds: Callable[[], Any], seconds: float = 120, pause_s: float = 0.02) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(pause_s)
    return found


def updates(made: RunSpec) -> int:
    path = made.folder.path / "metrics.jsonl"
    return path.read_text().count('"loss"') if path.exists() else 0


def running(made: RunSpec) -> list[psutil.Process]:
    """Every process that trains in the folder, workers included."""
    name, found = str(made.folder), []
    for process in psutil.process_iter():
        try:
            if name in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def calm(made: RunSpec) -> list[dict[str, float]]:
    """The curve of a run that nobody stops."""
    if made.settings.cpu_processes == 1:
        return train(write_run(made))
    launch.fit(made, Path(made.settings.manifest_path or ""), granted_gpus=0, threads=2)
    return metrics(made.folder.path)


@pytest.mark.parametrize("way", WAYS)
def test_sigterm_saves_and_the_same_command_goes_on(way: str, make: Any, tmp_path: Path) -> None:
    """From what was saved, to the same curve as a run that nobody stopped."""
    made = make("stopped", checkpoint_steps=100, **ALONE, **WAYS[way])
    process = start(made, tmp_path / "state")
    until(lambda: updates(made))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 75
    last = said.strip().splitlines()[-1]
    found = re.search(r"run stopped: stopped at update (\d+) of 12, checkpoint \1 is saved", last)
    assert found
    assert "the same command goes on from there" in last
    assert "Traceback" not in said
    assert not running(made)
    assert [int(path.name[5:]) for path in (made.folder.path / "checkpoints").iterdir()] == [
        int(found[1])
    ]
    again = start(made, tmp_path / "state")
    again.communicate()
    assert again.returncode == 0
    assert metrics(made.folder.path) == calm(make("calm", **ALONE, **WAYS[way]))


def test_a_run_that_writes_what_it_learnt_stops_as_well(make: Any, tmp_path: Path) -> None:
    """Whole recordings may be heard then, for hours; the same command begins with `final/`."""
    made = make("stopped", max_steps=1, num_workers=0)
    process = start(made, tmp_path / "state")
    [training, *_] = until(lambda: running(made))
    until(lambda: list(made.folder.path.glob(".final*")), pause_s=0.001)
    training.suspend()
    assert not made.folder.summary.exists()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    training.resume()
    _, said = process.communicate()
    assert process.returncode == 75
    assert "stopped after the last update, which is saved" in said
    assert not made.folder.final.exists()
    again = start(made, tmp_path / "state")
    again.communicate()
    assert again.returncode == 0
    assert made.folder.final.is_dir()


def test_ctrl_c_in_a_terminal_is_heard_once_and_a_second_one_at_once(
    make: Any, tmp_path: Path
) -> None:
    made = make("stopped", checkpoint_steps=100, **SLOW | {"max_steps": 10**6})
    process = start(made, tmp_path / "state", start_new_session=True)
    until(lambda: updates(made) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "checkpoint" in said.strip().splitlines()[-1]
    process = start(made, tmp_path / "state", start_new_session=True)
    [training, *_] = until(lambda: running(made))
    time.sleep(2)
    training.suspend()  # so that it can't finish anything
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1.5)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert not running(made)


def listening(process: psutil.Process) -> set[str]:
    """The addresses at which a command and what it started can be reached."""
    found = set()
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # workers of an evaluation come and go
            found |= {c.laddr.ip for c in one.net_connections("inet") if c.status == LISTENS}
    return found


@pytest.mark.parametrize("victim", ["launcher", "first", "second"])
def test_a_killed_process_takes_the_others_along(victim: str, make: Any, tmp_path: Path) -> None:
    """They can be reached from this machine alone, and the dead hold nothing."""
    made = make("killed", **ALONE | {"max_steps": 10**6}, **WAYS["two"])
    process = start(made, tmp_path / "state")
    until(lambda: updates(made) >= 2)
    assert listening(process) <= {"127.0.0.1", "::1"}
    ranks = sorted(process.children(), key=lambda one: one.pid)
    one = process if victim == "launcher" else ranks[victim == "second"]
    one.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    until(lambda: not running(made))
    if victim != "launcher":
        assert process.returncode == 75
        assert "a training process was ended by signal 9" in said.strip().splitlines()[-1]
    with holder.held(made.folder):
        pass


def test_a_folder_has_one_trainer_and_a_killed_worker_is_the_machines_trouble(
    make: Any, tmp_path: Path
) -> None:
    """Wherever the training process is when it hears of it: reading, computing, saving."""
    made = make("killed", **ALONE | {"max_steps": 10**6, "checkpoint_steps": 1})
    process = start(made, tmp_path / "state")
    until(lambda: updates(made) >= 2)
    second = start(made, tmp_path / "state")
    _, said = second.communicate()
    assert second.returncode == 1
    assert f"is being trained by process {process.pid} on " in said.strip().splitlines()[-1]
    [rank] = process.children()
    # An evaluation has workers of its own beside the one that reads for training, the eldest.
    worker = min(until(rank.children), key=lambda one: one.create_time())
    worker.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 75
    assert "killed" in said.strip().splitlines()[-1]
    assert "Traceback" not in said


def test_a_message_of_a_process_is_the_last_line(make: Any, tmp_path: Path) -> None:
    made = make("wrong", freeze=["ears"])
    process = start(made, tmp_path / "state")
    _, said = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "train.freeze: no part 'ears'" in said.strip().splitlines()[-1]
    assert json.loads((made.folder.path / "run.json").read_text())["seal"] == made.run_id
