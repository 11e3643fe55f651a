"""How far a run is: what its checkpoints keep beside weights and states."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from spark_trainer.metrics.objective import Objective


@dataclass
class Progress:
    """What a run counted, and what its evaluations found.

    Attributes:
        seen: samples that updates asked for.
        skipped: samples among them that could not be used.
        cut: texts among them that were too long.
        evaluated: update of the newest evaluation, -1 before the first.
        first: the objective at the first evaluation.
        best: the best objective so far.
        best_step: its update.
        stale: evaluations since then.
        metrics: the newest value of everything that evaluations measured.
        remembered: what the method goes on from.
    """

    seen: int = 0
    skipped: int = 0
    cut: int = 0
    evaluated: int = -1
    first: float | None = None
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    remembered: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, values: dict[str, Any]) -> "Progress":
        """Read what a checkpoint's `step.json` holds, where metrics stand beside all else."""
        own = {one.name for one in fields(cls)} - {"metrics"}
        known = {name: value for name, value in values.items() if name in own}
        metrics = {name: value for name, value in values.items() if name not in own}
        read = cls(**known, metrics=metrics)
        # Written as fractions before they were fields.
        read.seen, read.skipped, read.cut = int(read.seen), int(read.skipped), int(read.cut)
        return read

    def written(self) -> dict[str, Any]:
        """Return what a checkpoint's `step.json` holds."""
        values = asdict(self)
        del values["metrics"]
        return self.metrics | {name: one for name, one in values.items() if one not in (None, {})}

    def note(self, step: int, values: dict[str, float], objective: Objective) -> None:
        """Remember what an evaluation found."""
        value = values[objective.metric]
        self.metrics |= values
        self.evaluated = step
        if self.first is None:
            self.first = value
        if objective.improves(value, self.best):
            self.best, self.best_step, self.stale = value, step, 0
        else:
            self.stale += 1
