"""What processes do together while a run is evaluated."""

import json
from typing import Any

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
