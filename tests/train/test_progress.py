"""What checkpoints keep of a run's counts and bests reads the same before and after they had a
type of their own."""

from typing import Any

import pytest

from spark_trainer.metrics.objective import HELD_OUT_LOSS, Objective
from spark_trainer.train.progress import Progress

# As `step.json` had it of a run with an evaluation at update 6 that was worse than the first.
OLD: dict[str, Any] = {
    "seen": 24.0,
    "skipped": 1.0,
    "cut": 0.0,
    "evaluated": 6,
    "first": 3.5,
    "best": 3.5,
    "best_step": 0,
    "stale": 1,
    "held_out_loss": 4.0,
    "bleu": 12.5,
}


def test_a_checkpoint_of_an_earlier_version_is_read() -> None:
    read = Progress.read(OLD)
    assert (read.seen, read.skipped, read.cut) == (24, 1, 0)
    assert (read.evaluated, read.first, read.best, read.best_step, read.stale) == (
        6,
        3.5,
        3.5,
        0,
        1,
    )
    assert read.metrics == {"held_out_loss": 4.0, "bleu": 12.5}


def test_what_is_written_is_what_an_earlier_version_wrote() -> None:
    assert Progress.read(OLD).written() == OLD
    begun = {"seen": 0.0, "skipped": 0.0, "cut": 0.0, "evaluated": -1}
    assert Progress().written() == begun | {"stale": 0}
    assert Progress.read(begun) == Progress()


@pytest.mark.parametrize(
    ("objective", "best", "step"),
    [
        (HELD_OUT_LOSS, 1.0, 2),
        (Objective("held_out_reward", "higher", "held-out reward"), 3.0, 1),
    ],
    ids=str,
)
def test_the_better_of_two_is_what_the_objective_says(
    objective: Objective, best: float, step: int
) -> None:
    progress = Progress()
    for number, value in enumerate((2.0, 3.0, 1.0, 2.0)):
        progress.note(number, {objective.metric: value, "bleu": float(number)}, objective)
    assert (progress.first, progress.best, progress.best_step) == (2.0, best, step)
    assert progress.stale == 3 - step
    assert progress.evaluated == 3
    assert progress.metrics == {objective.metric: 2.0, "bleu": 3.0}
