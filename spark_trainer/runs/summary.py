"""What came of a run: `trained.json`, which is written last, with one reader and one writer."""

from dataclasses import dataclass, field, fields
from typing import Any, Self

from spark_trainer.data.files import read_json, write_json
from spark_trainer.metrics.objective import HELD_OUT_LOSS, Objective
from spark_trainer.runs.folder import RunFolder

OURS = {"objective", "first", "last", "best"}  # not called so in the file


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of a run.

    Attributes:
        steps: updates.
        device: type of the one that computed.
        objective: what is measured on held-out videos; in the file its values have its name, such
            as `best_loss`.
        first: its value at the first evaluation; None where nothing is held out, as the next three.
        last: at the last one.
        best: the best one.
        best_step: the update of that.
        scores: other metrics of the weights in `final/`.
        first_scores: the same metrics at the first evaluation that has them.
        final: which weights are in `final/`, `train.final`.
        processes: that trained together.
        optimizer_bytes: what the optimizer's state took in each of them.
        training_videos: learnt from.
        validation_videos: held out.
        left_out_videos: without what the run's `text` asks for.
        skipped_samples: that could not be used.
        cut_texts: that were longer than `max_length`.
        untold: tracker -> how many times it could not be told something.
        digests: file of `final/` -> SHA-256.
    """

    steps: int
    device: str
    objective: Objective
    first: float | None = None
    last: float | None = None
    best: float | None = None
    best_step: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    first_scores: dict[str, float] = field(default_factory=dict)
    final: str = "last"
    processes: int = 1
    optimizer_bytes: list[int] = field(default_factory=list)
    training_videos: int = 0
    validation_videos: int = 0
    left_out_videos: int = 0
    skipped_samples: int = 0
    cut_texts: int = 0
    untold: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def write(self, run: RunFolder) -> None:
        """Write it into a run folder: the run is finished."""
        key = self.objective.key
        values = {key("first"): self.first, key("last"): self.last, key("best"): self.best}
        same = (one.name for one in fields(self) if one.name not in OURS)
        write_json(run.summary, values | {name: getattr(self, name) for name in same})

    @classmethod
    def read(cls, run: RunFolder) -> Self:
        """Read it; what earlier versions did not count is 0."""
        value, measured = read_json(run.summary), objective(run)
        known = {one.name for one in fields(cls)} - OURS
        return cls(
            objective=measured,
            first=value[measured.key("first")],
            last=value[measured.key("last")],
            best=value.get(measured.key("best")),
            **{name: value[name] for name in known & value.keys()},
        )


def objective(run: RunFolder) -> Objective:
    """Return what a run is measured by; earlier versions knew one objective and named none."""
    said: dict[str, Any] = read_json(run.lineage) if run.lineage.exists() else {}
    return Objective(**said["objective"]) if "objective" in said else HELD_OUT_LOSS
