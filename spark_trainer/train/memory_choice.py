"""What a run computes a second time where that is left to the memory of its GPUs."""

from bisect import bisect_left

from spark_trainer.config import Run
from spark_trainer.config.optimization import RECOMPUTED
from spark_trainer.train import memory_plan
from spark_trainer.train.memory_plan import Plan, Planner


def name(run: Run) -> str:
    """Return the key of a run's choice with its value, as they are written in YAML."""
    return f"gradient_checkpointing: {str(run.recomputed).lower()}"


def choices(run: Run) -> list[Run]:
    """Return the runs that `auto` stands for, from the one that takes most memory.

    Those that the run's strategy refuses are left out, and so is `false`: the last digits of its
    gradients are others, and what a run learns must not depend on the GPUs that it gets.
    """
    found = [memory_plan.changed(run, {"gradient_checkpointing": how}) for how in RECOMPUTED if how]
    return [one for one in found if one]


def choose(run: Run, planner: Planner, memory: float) -> tuple[Run, dict[str, Plan]]:
    """Choose the first of the choices that fits; the last one where none of the others does.

    They are searched by halves, since each takes a pass: 12 s for a model of 7 billion weights.

    Args:
        run: the settings.
        planner: plans the choices.
        memory: bytes of a GPU that may be taken.

    Returns:
        The choice, and the plans of all that were tried, by their names.

    Raises:
        ValueError, OSError: as `Planner.plan`.
    """
    runs, tried = choices(run), dict[str, Plan]()

    def fits(one: Run) -> bool:
        plan = tried[name(one)] = planner.plan(one)
        return plan.peak <= memory

    return runs[bisect_left(runs, True, hi=len(runs) - 1, key=fits)], tried
