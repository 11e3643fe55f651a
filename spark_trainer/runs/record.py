"""What a run folder says, and which run a user means."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spark_trainer.data.files import canonical_json, read_json
from spark_trainer.errors import UserError
from spark_trainer.metrics import score
from spark_trainer.metrics.objective import Objective
from spark_trainer.runs import folder, spec
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.summary import objective

NAMED = 10  # things of a kind that a list names; the others are counted

Values = dict[str, Any]  # dotted key -> plain value

# What reading a run raises where its files hold something else than was written there.
DAMAGED = (OSError, UserError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


class RunError(UserError, ValueError):
    """A run that can't be read, or a name that means no run or several; the message says which."""


# What stands in `lineage.json`, where it does.
OPTIONAL = {dict: ("packages",), list: ("gpus",), str: ("base_run", "continued_from", "code")}
LINEAGE: dict[str, Any] = {"videos": dict, "manifest_sha256": str} | {
    key: kind | None for kind, keys in OPTIONAL.items() for key in keys
}


@dataclass(frozen=True)
class FoundRun:
    """A run as its folder tells it, finished or not.

    `started` is in seconds since 1970; where an interrupted run was taken up again, since then.
    `objective` is what is measured on held-out videos; `results` are its values, the counts and
    the scores that are known so far, `origin` is the code, the packages and the hardware.
    """

    folder: RunFolder
    started: float
    finished: bool
    parameters: Values
    objective: Objective
    results: Values
    origin: Values
    manifest_sha256: str
    videos: int

    @property
    def name(self) -> str:
        """`<run>-<run id>`, as its folder is called."""
        return self.folder.name

    def json(self) -> str:
        """Return everything known about the run, on one line."""
        return canonical_json(asdict(self) | {"run": self.name, "folder": str(self.folder)})


def find(folders: Iterable[Path]) -> tuple[list[FoundRun], list[str]]:
    """Find the runs directly below folders, oldest first, and say which can't be read."""
    found, complaints = [], []
    for run in (run for path in folders for run in folder.below(path)):
        try:
            found.append(read(run))
        except RunError as error:
            complaints.append(f"left out: {error}")
    return sorted(found, key=lambda run: (run.started, run.name)), complaints


def read(run: RunFolder) -> FoundRun:
    """Read one run folder.

    Raises:
        RunError: a file of it is missing or damaged.
    """
    try:
        return _read(run)
    except DAMAGED as error:
        raise damaged(run, error) from None


def damaged(run: RunFolder, error: BaseException) -> RunError:
    """Say of a run folder what reading it raised, one of `DAMAGED`."""
    match error:
        case RunError():
            return error
        case KeyError():
            files = f"{run.run_file.name} or {run.lineage.name}"
            return RunError(f"{run}: no {error} in {files}")
        case OSError() | ValueError() | UserError():
            named = str(error).startswith(f"{run}/")
            return RunError(str(error) if named else f"{run}: {error}")
        case _:
            return RunError(f"{run}: a file in it is damaged ({error})")


def described(run: RunFolder) -> Values:
    """Read what a run is made of.

    Raises:
        RunError: its file is missing or damaged.
    """
    try:
        said = dict(read_json(run.lineage, dict))
    except (OSError, ValueError):
        raise RunError(f"{run.lineage}: missing or damaged") from None
    for key, kind in LINEAGE.items():
        if not isinstance(said.get(key), kind):
            raise RunError(f"{run.lineage}: damaged: {key}")
    if not all(isinstance(one, dict) for one in said["videos"].values()):
        raise RunError(f"{run.lineage}: damaged: videos")
    return said


def _read(run: RunFolder) -> FoundRun:
    parameters, lineage, measured = spec.settings(run), described(run), objective(run)
    results, finished = _results(run, measured), run.summary.exists()
    if finished:
        told = read_json(run.summary, dict)
        first = {score.first_key(name): one for name, one in told.get("first_scores", {}).items()}
        results = first | told.get("scores", {}) | results  # some are measured at the end alone
        results |= {
            key: value
            for key, value in told.items()
            if isinstance(value, int | float) and key not in lineage
        }
    elsewhere = ("manifest_sha256", "model_name", "objective", "run", "seal", "videos")
    return FoundRun(
        folder=run,
        started=run.run_file.stat().st_mtime,
        finished=finished,
        parameters=flat(parameters),
        objective=measured,
        results=results,
        origin=flat({key: value for key, value in lineage.items() if key not in elsewhere}),
        manifest_sha256=lineage["manifest_sha256"],
        videos=len(lineage["videos"]),
    )


def choose(runs: Sequence[FoundRun], wanted: str) -> FoundRun:
    """Find the run meant by a folder, `<run>-<run id>`, a name, an id, or the beginning of one.

    Raises:
        RunError: nothing, or more than one, answers to it; the message lists the candidates.
    """
    if RunFolder(Path(wanted)).exists():
        return read(RunFolder(Path(wanted).resolve()))
    names = {run.folder: (run.name, *run.name.rsplit("-", 1)) for run in runs}
    whole = [run for run in runs if wanted in names[run.folder]]
    begun = [run for run in runs if any(n.startswith(wanted) for n in names[run.folder])]
    found = whole or begun
    if len(found) == 1:
        return found[0]
    meant = "more than one run" if found else "no run"
    listed = "".join(f"\n  {line}" for line in some(str(run.folder) for run in found or runs))
    raise RunError(f"{wanted!r} is {meant}; expected one of:{listed or ' none is there'}")


def some(things: Iterable[str]) -> list[str]:
    """Return the first few, and how many more there are."""
    every = list(things)
    more = [f"and {len(every) - NAMED} more"] if len(every) > NAMED else []
    return every[:NAMED] + more


def _results(run: RunFolder, objective: Objective) -> Values:
    """Return steps, values of the objective and scores, named as in the summary."""
    first, last, best = (objective.key(which) for which in ("first", "last", "best"))
    found: Values = {}
    for line in metrics(run):
        found["steps"] = line["step"]
        scores = score.known(line)
        first_scores = {score.first_key(one): scores[one] for one in score.followed(scores)}
        found = first_scores | found | scores
        value = line.get(objective.metric)
        if value is not None:
            found = {first: value} | found | {last: value}
            if objective.improves(value, found.get(best)):
                found |= {best: value, "best_step": line["step"]}
    return found


def metrics(run: RunFolder) -> Iterator[Values]:
    """Yield the lines of a run's metrics that are whole: a crash may cut the last one short.

    A value that is no finite number is null, as the trainer writes it.
    """
    if not run.metrics.exists():
        return
    with open(run.metrics, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                said = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(said, dict) and type(said.get("step")) is int:
                yield {key: None if _endless(value) else value for key, value in said.items()}


def _endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def flat(values: Values, prefix: str = "") -> Values:
    """Flatten sections: `{"split": {"seed": 0}}` to `{"split.seed": 0}`."""
    found: Values = {}
    for key, value in values.items():
        inside = isinstance(value, dict)
        found |= flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return found
