"""Runs as the page compares them: curves, held-out samples, settings, each in few numbers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, starmap
from typing import Any, Self

from spark_trainer.data.files import canonical_json, read_json
from spark_trainer.data.jsonl import shown
from spark_trainer.metrics import score
from spark_trainer.report.page import origins
from spark_trainer.report.page.videos import Links
from spark_trainer.runs import record
from spark_trainer.runs.folder import RunFolder, step_of
from spark_trainer.runs.record import DAMAGED, FoundRun, RunError

POINTS = 400  # of a curve, about what a screen can tell apart
LISTS = 6  # updates whose samples are shown, the first and the last among them
SAMPLES = 24  # of an update
DIGITS = 6
NUMBER = (int, float)
FIRST_METRICS = ("held_out_loss", "loss")

# Updates, values, and of a curve that is thinned the mean around each point, for smooth lines.
Curve = list[list[float]]


@dataclass(frozen=True)
class ShownRun:
    """A run, what the page tells of it and of its origin, and the split of each of its videos."""

    found: FoundRun
    told: dict[str, Any]
    origin: dict[str, Any]
    splits: dict[str, str]

    @classmethod
    def read(cls, run: RunFolder, links: Links) -> Self:
        """Read a run folder.

        Raises:
            RunError: something in it is damaged.
        """
        try:
            found = record.read(run)
            made = cls(found, _run(found, links), origins.of_run(run), origins.splits(run))
            canonical_json([made.told, made.origin, made.splits])  # no page takes what JSON has not
        except DAMAGED as error:
            raise record.damaged(run, error) from None
        return made


@dataclass(frozen=True)
class Shown:
    """The runs that the page shows, the oldest first, and why others are left out."""

    runs: Sequence[ShownRun]
    complaints: Sequence[str]

    @classmethod
    def read(cls, folders: Iterable[RunFolder], links: Links) -> Self:
        """Read runs; one whose folder is damaged is named and left out."""
        found, complaints = list[ShownRun](), list[str]()
        for run in folders:
            try:
                found.append(ShownRun.read(run, links))
            except RunError as error:
                complaints.append(str(error))
        return cls(sorted(found, key=lambda run: (run.found.started, run.found.name)), complaints)

    @property
    def found(self) -> list[FoundRun]:
        """List what the folders say."""
        return [run.found for run in self.runs]

    def told(self) -> dict[str, Any]:
        """Return what the page shows of them."""
        return {"runs": [run.told for run in self.runs], "left_out": list(self.complaints)}

    def seen_by(self) -> dict[str, list[tuple[int, str]]]:
        """Return video -> the number of each run that saw it, and the split."""
        seen = defaultdict[str, list[tuple[int, str]]](list)
        for number, run in enumerate(self.runs):
            for video, split in run.splits.items():
                seen[video].append((number, split))
        return dict(seen)


def _run(run: FoundRun, links: Links) -> dict[str, Any]:
    measured = run.objective
    return {
        "name": run.name,
        "started": run.started,
        "finished": run.finished,
        "steps": run.results.get("steps", 0),
        "max_steps": run.parameters.get("max_steps"),
        "objective": asdict(measured),
        "values": [run.results.get(measured.key(which)) for which in ("first", "last", "best")],
        "best_step": run.results.get("best_step"),
        "scores": _scores(run.results),
        "parameters": {key: value for key, value in run.parameters.items() if value is not None},
        "origin": run.origin,
        "manifest": run.manifest_sha256,
        "videos": run.videos,
        "folder": links.to(run.folder.path),
        "curves": curves(record.metrics(run.folder)),
        "samples": _samples(run.folder, links),
    }


def _scores(results: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """Return score -> its first and last value."""
    known = score.known(results)
    return {name: [results.get(score.first_key(name)), value] for name, value in known.items()}


def curves(lines: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Return metric -> its curve, the objective's and the loss first, each thinned."""
    found: dict[str, Curve] = {}
    for line in lines:
        for name, value in line.items():
            if name != "step" and isinstance(value, NUMBER):
                steps, values = found.setdefault(name, [[], []])
                steps.append(line["step"])
                values.append(_short(value))
    order = [*(name for name in FIRST_METRICS if name in found), *sorted(found)]
    return {name: thinned(found[name]) for name in dict.fromkeys(order)}


def thinned(curve: Curve) -> Curve:
    """Return a curve of at most `POINTS` points that keeps its ends, and the extremes between."""
    steps, values = curve
    if len(steps) <= POINTS:
        return curve
    parts = POINTS // 2 - 1
    edges = [part * len(steps) // parts for part in range(parts + 1)]
    means = dict[int, float]()
    for inside in starmap(range, pairwise(edges)):
        mean = _short(sum(values[i] for i in inside) / len(inside))
        lowest, highest = (pick(inside, key=values.__getitem__) for pick in (min, max))
        means |= dict.fromkeys((lowest, highest), mean)
        means |= {i: mean for i in (0, len(steps) - 1) if i in inside}
    chosen = sorted(means)
    return [[steps[i] for i in chosen], [values[i] for i in chosen], [means[i] for i in chosen]]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _samples(run: RunFolder, links: Links) -> list[dict[str, Any]]:
    """Return what was made of held-out samples, at the first, the last and some other updates."""
    lists = run.sample_lists()
    count = min(LISTS, len(lists))
    chosen = [lists[round(i * (len(lists) - 1) / max(1, count - 1))] for i in range(count)]
    found = []
    for path in chosen:
        step = step_of(path.with_suffix(""))
        records = read_json(path, list)[:SAMPLES]
        page = run.sample_page(step)
        told = {"step": step, "samples": [_sample(one, run, links) for one in records]}
        found.append(told | ({"page": links.to(page.absolute())} if page.exists() else {}))
    return found


def _sample(said: Mapping[str, Any], run: RunFolder, links: Links) -> dict[str, Any]:
    """Return what was made of one sample: a text, beside the one it is to be, or a file.

    Raises:
        ValueError: something in it is of another type.
    """
    told: dict[str, Any] = {
        "video": said.get("video"),
        "start": said.get("start"),
        "prompt": said.get("prompt"),
        "reference": said.get("reference", said.get("caption")),
        "text": said.get("generated", said.get("text")),
        "edits": said.get("edits"),
        "reward": (said.get("likeliest") or {}).get("reward"),
        "file": links.to(run.shown(said["file"]).absolute()) if "file" in said else None,
    }
    known = {key: value for key, value in told.items() if value is not None}
    for key, value in known.items():
        if not isinstance(value, NUMBER if key in ("start", "reward") else str):
            raise ValueError(f"{run.samples}: a sample whose {key} is {shown(value)}")
    return known
