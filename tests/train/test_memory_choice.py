"""What is computed a second time is as little as the memory of a GPU has room for."""

from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config.optimization import RECOMPUTED
from spark_trainer.train import memory_choice, memory_plan
from spark_trainer.train.memory_pass import Data
from spark_trainer.train.topology import Topology


def test_the_first_that_fits_is_chosen(make: Any, manifest: Path) -> None:
    run = make(gradient_checkpointing="auto", batch_size=8).settings
    planner = memory_plan.Planner(Topology(1, 1, "cuda"), Data(manifest, manifest.parent))
    peaks = {one.recomputed: planner.plan(one).peak for one in memory_choice.choices(run)}
    assert tuple(peaks) == RECOMPUTED[1:]
    assert peaks[True] < planner.plan(run.model_copy(update={"gradient_checkpointing": False})).peak
    for peak in peaks.values():
        found, tried = memory_choice.choose(run, planner, peak)
        assert found.recomputed == next(how for how in peaks if peaks[how] <= peak)
        assert len(tried) <= 3
    assert memory_choice.choose(run, planner, 1)[0].recomputed is True


@pytest.mark.parametrize(
    "strategy", [{"use_deepspeed": True, "deepspeed_config": "zero.json"}, {"fsdp": True}]
)
def test_what_a_strategy_refuses_is_no_choice(make: Any, strategy: dict[str, Any]) -> None:
    run = make(gradient_checkpointing="auto", **strategy).settings
    found = [one.recomputed for one in memory_choice.choices(run)]
    assert found == ([4, 2, True] if run.use_deepspeed else list(RECOMPUTED[1:]))
