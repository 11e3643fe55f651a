"""The loop itself: accumulation, resume, skipped samples, and stops that say why."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from spark_trainer.train import loop
from spark_trainer.train.loop import TrainingError

from .conftest import metrics, write_run


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps its state for a process; each run here is its own."""
    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def train(folder: Path) -> list[dict[str, float]]:
    loop.prepare(folder).train()
    return metrics(folder)


def test_loss_falls_and_everything_is_written(make: Any) -> None:
    from transformers import AutoProcessor, BlipForConditionalGeneration

    folder = write_run(make(max_steps=20, eval_steps=10))
    curve = train(folder)
    held_out = [line["held_out_loss"] for line in curve if "held_out_loss" in line]
    assert len(held_out) == 3
    assert held_out[-1] < held_out[0] - 1
    assert [line["step"] for line in curve if "loss" in line] == list(range(1, 21))
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "step_00000018",
        "step_00000020",
    ]
    assert list((folder / "tensorboard").glob("events*"))
    assert len(list((folder / "samples").iterdir())) == 3
    assert BlipForConditionalGeneration.from_pretrained(folder / "final")
    assert AutoProcessor.from_pretrained(folder / "final")
    assert "held-out loss" in (folder / "final" / "README.md").read_text()
    assert (folder / "trained.json").exists()


def test_accumulation_is_the_token_weighted_mean(make: Any) -> None:
    whole = train(write_run(make("whole", batch_size=8, max_steps=4)))
    AcceleratorState._reset_state(True)
    parts = train(
        write_run(make("parts", batch_size=2, gradient_accumulation_steps=4, max_steps=4))
    )
    for one, other in zip(whole, parts, strict=True):
        assert one.keys() == other.keys()
        assert all(one[key] == pytest.approx(other[key], rel=2e-4, abs=1e-7) for key in one)


def test_a_missing_frame_is_counted_and_stops_past_the_limit(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(max_skipped=0.5)
    for frame in sorted(made.data_root.rglob("frame_000001.jpg"))[:4]:
        frame.unlink()
    folder = write_run(made)
    train(folder)
    assert '"skipped_samples":0' not in (folder / "trained.json").read_text()
    AcceleratorState._reset_state(True)
    with pytest.raises(TrainingError, match=r"train\.max_skipped = 0 allows.*frame_000001\.jpg"):
        train(write_run(make("strict", max_skipped=0.0)))


def test_an_empty_part_stops_with_the_key(make: Any) -> None:
    with pytest.raises(ValueError, match=r"train\.split.*'validation'"):
        train(write_run(make(split={"validation": 0.0})))


def test_another_world_than_asked_for_stops(make: Any) -> None:
    with pytest.raises(TrainingError, match="asked for 2 processes on cpu, got 1 on cpu"):
        train(write_run(make(), processes=2))


def test_a_loss_that_is_no_number_stops(make: Any) -> None:
    folder = write_run(make(learning_rate=1e30, eval_steps=100, checkpoint_steps=1))
    with pytest.raises(TrainingError, match=r"the loss was no number for 3 steps up to \d"):
        train(folder)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_00000001"]
    assert metrics(folder)[-1]["loss"] is None


def test_weights_that_are_no_numbers_stop_at_once(make: Any) -> None:
    trainer = loop.prepare(write_run(make()))
    with torch.no_grad():
        next(trainer.loaded.model.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="the held-out loss is no number at step 0"):
        trainer.train()


@pytest.mark.long
def test_a_killed_run_goes_on_bit_by_bit(make: Any) -> None:
    settings = {"max_steps": 24, "eval_steps": 6, "num_workers": 1}
    calm = train(write_run(make("calm", **settings)))
    folder = write_run(make("killed", **settings))
    moments = random.Random(0)
    command = [sys.executable, "-m", "spark_trainer.train.loop", str(folder)]
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(command, start_new_session=True, env=os.environ | CPU)
        steps = _steps(folder)
        while process.poll() is None and _steps(folder) < steps + moments.randint(3, 6):
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run(command, check=True, env=os.environ | CPU)
    assert kills >= 2
    assert metrics(folder) == calm


CPU = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


def _steps(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count('"loss"') if path.exists() else 0
