"""What says which of two updates is the better one."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Objective:
    """The measure of held-out samples by which one update is better than another.

    Attributes:
        metric: its name in the metrics, a mean over what `Batch.num_targets` counts.
        better: which of two values is.
        words: what people call it.
    """

    metric: str
    better: Literal["lower", "higher"]
    words: str

    @property
    def extreme(self) -> str:
        """Say of the best value what it is among all."""
        return {"lower": "least", "higher": "highest"}[self.better]

    def key(self, which: Literal["first", "last", "best"]) -> str:
        """Return what a run's summary calls one of its values, such as `best_loss`."""
        return f"{which}_{self.metric.removeprefix('held_out_')}"

    def improves(self, value: float, best: float | None) -> bool:
        """Tell whether a value is better than the best so far."""
        if best is None:
            return True
        return value < best if self.better == "lower" else value > best


HELD_OUT_LOSS = Objective("held_out_loss", "lower", "held-out loss")
