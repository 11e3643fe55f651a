"""What processes do together while a run is evaluated."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import Run
from spark_trainer.data.dataset import VideoFrameDataset
from spark_trainer.data.sample import Sample
from spark_trainer.train import processes
from spark_trainer.train.topology import Topology

from .conftest import train, write_run
from .in_turn import NUM_SAMPLES


def test_processes_take_turns_at_samples(make: Any) -> None:
    """One of two alone would take longer than the other waits; what is shown stays the same."""
    keys = {"split": {"validation": 0.5}, "num_samples": NUM_SAMPLES, "max_steps": 1}
    keys |= {"global_batch_size": 4, "eval_steps": 100}
    one, two = make("one", **keys), make("two", **keys)
    train(write_run(one))
    program = ["-m", "tests.train.in_turn", str(write_run(two, processes=2))]
    ending = processes.start(program, two.settings, Topology(1, 2, "cpu"), 2, None)
    assert (ending.status, ending.reason) == (0, "")
    shown = [
        json.loads((made.folder.path / "samples/step_00000000.json").read_text())
        for made in (one, two)
    ]
    assert len(shown[0]) == NUM_SAMPLES
    assert shown[1] == shown[0]


def test_workers_decode_what_is_held_out(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but what is shown, and the loss is the one that this process would have found."""
    read, places = VideoFrameDataset.__getitem__, tmp_path / "read"
    places.mkdir()

    def noted(self: VideoFrameDataset, number: int) -> Sample:
        (places / f"{len(self)}-{number}-{os.getpid()}").touch()
        return read(self, number)

    monkeypatch.setattr(VideoFrameDataset, "__getitem__", noted)
    keys = {"split": {"validation": 0.5}, "num_samples": 0, "max_steps": 2, "batch_size": 1}
    alone = train(write_run(make("alone", **keys)))
    assert any(path.name.endswith(f"-{os.getpid()}") for path in places.iterdir())
    for path in places.iterdir():
        path.unlink()
    helped = train(write_run(make("helped", num_workers=2, **keys)))
    assert helped == alone
    assert len({path.name.rpartition("-")[2] for path in places.iterdir()} - {str(os.getpid())}) > 2
    assert not any(path.name.endswith(f"-{os.getpid()}") for path in places.iterdir())


def test_an_evaluation_can_be_limited(make: Any) -> None:
    """And its loss is then another, which counts where it decides something."""
    keys = {"split": {"validation": 0.5}, "max_steps": 1}
    whole, part = (make(f"run{most}", max_eval_samples=most, **keys) for most in (None, 2))
    losses = [train(write_run(made))[0]["held_out_loss"] for made in (whole, part)]
    assert losses[0] != losses[1]
    assert whole.settings.results() == part.settings.results()
    best, fewer = (Run(final="best", max_eval_samples=most).results() for most in (None, 2))
    assert "max_eval_samples" not in best
    assert fewer == best | {"max_eval_samples": 2}
