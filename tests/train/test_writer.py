"""Checkpoints on a slow disk: updates go on, and a checkpoint is whole or absent all the same."""

import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from spark_trainer.errors import MachineError, Stopped
from spark_trainer.runs.folder import RunFolder
from spark_trainer.train import checkpoints, setup, stop, writer
from spark_trainer.train.loop import Trainer
from spark_trainer.train.nest import Snapshot
from spark_trainer.train.writer import Pending, Writer

from .conftest import metrics, train, write_run

PATIENCE_S = 20
QUIET = {"eval_steps": 10**6, "num_samples": 0}


@dataclass
class Disk:
    """Where flushing what a writer wrote takes until something has come true."""

    flush: Callable[[int], None] = os.fsync
    ready: Callable[[], bool] = lambda: True
    most_writers: int = 0  # at once

    def fsync(self, descriptor: int) -> None:
        if threading.current_thread().name.startswith("checkpoint"):
            writers = [one for one in threading.enumerate() if one.name.startswith("checkpoint")]
            self.most_writers = max(self.most_writers, len(writers))
            end = time.monotonic() + PATIENCE_S
            while not self.ready():
                assert time.monotonic() < end, "it did not come true while the disk was at work"
                time.sleep(0.01)
        self.flush(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    return disk


def updates(folder: Path) -> int:
    return sum("loss" in line for line in metrics(folder))


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


class Asked(stop.Asked):
    """Hears no signals."""

    def __init__(self) -> None:
        self.number = 0


def test_updates_go_on_while_the_disk_works_and_a_stop_saves(make: Any, disk: Disk) -> None:
    """A stop that is asked for meanwhile: every checkpoint is whole before the run ends."""
    made = make(max_steps=10**6, checkpoint_steps=3, keep_checkpoints=9, **QUIET)
    folder, asked = write_run(made), Asked()

    def two_more() -> bool:
        if asked.number == 0 and updates(folder) >= 5:
            assert saved(folder) == [checkpoints.WRITING]
            asked.number = signal.SIGTERM
        return asked.number > 0

    start = setup.prepare(folder)
    disk.ready = two_more
    with pytest.raises(Stopped, match=r"at update (\d+) of \d+, checkpoint \1 is saved") as stopped:
        Trainer.build(start, asked).train()
    assert stopped.value.status == 75
    first, *others = RunFolder(folder).saved_checkpoints()
    assert first.name == "step_00000003"
    assert f"checkpoint {int(others[-1].name[5:])} is saved" in str(stopped.value)
    assert not any(checkpoints.fault(one, made.run_id) for one in (first, *others))


def test_one_is_written_at_a_time_and_the_numbers_are_those_of_its_update(
    make: Any, disk: Disk
) -> None:
    """Weights have moved on when the disk takes them."""
    settings = {"checkpoint_steps": 1, "keep_checkpoints": 9, "schedule": "constant", **QUIET}
    settings |= {"split": {"validation": 0.0}, "ema_decay": 0.9}
    slow = write_run(make("slow", max_steps=4, **settings))
    disk.ready = lambda: time.sleep(0.02) or True
    train(slow)
    assert disk.most_writers == 1
    for step in (1, 3):
        alone = write_run(make(f"alone{step}", max_steps=step, **settings))
        train(alone)
        for name in ("trainable", "optimizer", "average"):
            file = RunFolder(slow).checkpoint(step) / f"{name}.safetensors"
            assert file.read_bytes() == (RunFolder(alone).checkpoint(step) / file.name).read_bytes()


def test_a_disk_that_is_full_stops_the_run_at_its_next_update(make: Any) -> None:
    folder = write_run(make(max_steps=10**6, checkpoint_steps=2, **QUIET))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(MachineError, match=r"step_00000002: the checkpoint can't be written"):
            train(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert updates(folder) <= 4
    assert saved(folder) == []


@pytest.fixture
def two(tmp_path: Path) -> Callable[[int, Path], Pending]:
    """A checkpoint as each of two processes holds it."""
    folder = RunFolder(tmp_path)
    checkpoints.begin(folder)

    def two(process: int, inside: Path = Path()) -> Pending:
        file = folder.checkpoints / checkpoints.WRITING / inside / f"{process}.safetensors"
        files = {file: Snapshot.of([torch.arange(4)])}
        return Pending(folder, "run", 7, files, {"step": 7}, folder.checkpoint(0), 1)

    return two


def test_processes_complete_it_together(two: Any) -> None:
    store = torch.distributed.HashStore()
    first, second = Writer(0, 2, store), Writer(1, 2, store)
    with first, second:
        first.start(two(0))
        time.sleep(0.3)
        assert not two(0).folder.saved_checkpoints()
        second.start(two(1))
    checkpoint = two(0).folder.checkpoint(7)
    assert not checkpoints.fault(checkpoint, "run")
    assert len(list(checkpoint.glob("*.safetensors"))) == 2


def test_what_one_process_cannot_write_stops_all(two: Any) -> None:
    store = torch.distributed.HashStore()
    first, second = Writer(0, 2, store), Writer(1, 2, store)
    first.start(two(0))
    second.start(two(1, Path("absent")))
    for one in (first, second):
        with pytest.raises(MachineError, match=r"step_00000007: .*No such file"):
            one.wait()
    assert not list(two(0).folder.checkpoints.iterdir())


def test_a_process_whose_loop_has_failed_waits_for_no_dead_one(
    two: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it has written stays, for one that is only slow."""
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0.2)
    alone = Writer(1, 2, torch.distributed.HashStore())

    def lose() -> None:
        with alone:
            alone.start(two(1))
            raise RuntimeError("connection lost")

    with pytest.raises(RuntimeError, match="connection lost"):
        lose()
    assert "checkpoint 7: parts: the other processes don't say" in caplog.text
    assert [path.name for path in two(1).files if path.exists()] == ["1.safetensors"]
