"""Why training runs are due: what sets each apart from the run of its name that was before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from spark_trainer.runs import folder
from spark_trainer.runs.difference import changes
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.record import flat
from spark_trainer.runs.spec import LaunchedRun, RunSpec
from spark_trainer.store.why import changed_to

SAID = {
    "data": "its data changed",
    "weights": "the weights that it begins with changed",
    "files": "a file that it reads changed, such as a reward",
    "references": "its references changed",
}


@dataclass(frozen=True)
class DueRun:
    """A run that is due, why, and the run of its name before it.

    `why` is empty for a run that is there already: its job only looks.
    """

    name: str
    folder: str
    before: str | None
    why: Sequence[str]

    @classmethod
    def of(cls, spec: RunSpec, earlier: Sequence[RunFolder]) -> Self:
        """Compare a run with the newest of those that had its name.

        Args:
            spec: the run as it is asked for.
            earlier: run folders of its name, without its own.
        """
        before = max(earlier, key=lambda run: run.run_file.stat().st_mtime, default=None)
        name = before.name if before else None
        return cls(spec.name, str(spec.folder), name, tuple(_why(spec, before)))


def earlier_runs(spec: RunSpec) -> list[RunFolder]:
    """List the runs of a name that were launched beside where a run will lie, without its own."""
    found = folder.below(spec.folder.path.parent)
    named = (run for run in found if run.name.rpartition("-")[0] == spec.name)
    return [run for run in named if run.path != spec.folder.path]


def _why(spec: RunSpec, before: RunFolder | None) -> Iterator[str]:
    if spec.folder.summary.is_file():
        return
    if spec.folder.exists():
        saved = spec.folder.saved_checkpoints()
        begun = f"goes on from update {folder.step_of(saved[-1])}" if saved else "begins again"
        yield f"was interrupted, and {begun}"
        return
    if before is None:
        yield "new"
        return
    try:
        launched = LaunchedRun.read(before)
    except (OSError, ValueError, KeyError):
        yield f"other than {before.name}, which this version can't read"
        return
    yield from _differing(spec, launched)


def _differing(spec: RunSpec, launched: LaunchedRun) -> Iterator[str]:
    """Yield what sets a run apart from one that was launched."""
    told = changes(flat(launched.settings.results()), flat(spec.settings.results()))
    found = [changed_to(key, *pair) for key, pair in told.items()]
    origins = changes(launched.origin, spec.origin)
    found += [SAID.get(key, f"{key} changed") for key in origins]
    continued = spec.base.name if spec.base else None
    if continued != launched.continued_from and continued:
        found.append(f"goes on from {continued}")
    yield from found or ["SparkTrainer trains otherwise since"]
