"""What training runs learnt, as the summary of a build tells it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spark_trainer.data.files import read_json
from spark_trainer.metrics.score import SCORES
from spark_trainer.report import side_by_side
from spark_trainer.report.table import Line, Row
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.summary import Summary

SAMPLES = 3  # of a run that is alone; those of several fill a terminal, and stand on the page
# The error rates that say most of what was heard, the first that a run has.
RATES = {"wer_long": "words", "wer": "words", "cer_long": "characters", "cer": "characters"}

Pair = tuple[Mapping[str, Any], Mapping[str, Any]]  # a sample before training and after


def finished(runs: Mapping[str, Path]) -> dict[str, RunFolder]:
    """Return name -> folder of the runs that are finished.

    Args:
        runs: each run's name and the path of its summary.
    """
    return {name: RunFolder(path.parent) for name, path in runs.items() if path.exists()}


def rows(runs: Mapping[str, RunFolder]) -> Iterator[Row]:
    """Yield what came of each run: what is held out, before training and after; where it lies."""
    for name, folder in runs.items():
        summary = Summary.read(folder)
        told = [_plainly(summary), _exactly(summary), str(folder.final)]
        told += [f"answers {page}" for page in folder.sample_pages()[-1:]]
        yield f"run {name}", [Line(text) for text in told]


def samples(runs: Mapping[str, RunFolder]) -> dict[str, list[Pair]]:
    """Return name -> some samples of the only run, each of another video; none of several runs."""
    found: dict[str, list[Pair]] = {}
    if len(runs) > 1:
        return found
    for name, folder in runs.items():
        lists = folder.sample_lists()
        before, after = (read_json(lists[at], list) if lists else [] for at in (0, -1))
        at_first = {_place(one): one for one in before}
        pairs = dict[str, Pair]()
        for one in after:
            if _place(one) in at_first:
                pairs.setdefault(one["video"], (at_first[_place(one)], one))
        found[name] = list(pairs.values())[:SAMPLES]
    return found


def _place(sample: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sample.get(key) for key in ("video", "start", "prompt"))


def shown(
    runs: Mapping[str, RunFolder], pairs: Mapping[str, list[Pair]], names: Mapping[str, str]
) -> Iterator[Line]:
    """Yield samples, before training and after, side by side.

    Args:
        runs: name -> folder.
        pairs: what `samples` returned.
        names: hash -> what a video is called; one without is called by its hash.
    """
    for name, found in pairs.items():
        if found:
            yield from (Line(""), Line(_heading(name, found[0][1])))
        for before, after in found:
            video = after["video"]
            called = names.get(video, video[:12])
            if "file" in after:
                yield Line(f"  {called}: {runs[name].shown(after['file'])}", video)
                continue
            yield Line(f"  {called}", video)
            for text in side_by_side.rows(before, after):
                yield Line(f"    {text}", video)


def _heading(name: str, sample: Mapping[str, Any]) -> str:
    if "file" in sample:
        return f"Videos that run {name} made from held-out ones:"
    if "edits" in sample:
        return f"Held-out speech as run {name} hears it; what stands in [ ] was not said so:"
    return f"Held-out videos as run {name} describes them:"


def _plainly(summary: Summary) -> str:
    """Say how much better the held-out videos are known, in words that everybody knows."""
    both = summary.scores.keys() & summary.first_scores.keys()
    for name, unit in RATES.items():
        if name in both:
            first, last = summary.first_scores[name], summary.scores[name]
            return f"errors in 100 held-out {unit}: {first:.0f} before training, {last:.0f} after"
    if summary.first is None:
        return "nothing held out"
    words = summary.objective.words
    return f"{words}: {summary.first:.3f} before training, {summary.last:.3f} after"


def _exactly(summary: Summary) -> str:
    """Say how the objective and the scores changed, in how many updates, and where."""
    changed = []
    if summary.first is not None:
        changed = [f"{summary.objective.words} {summary.first:.3f} → {summary.last:.3f}"]
    for name, score in SCORES.items():
        if score.column and score.followed and name in summary.scores:
            first = summary.first_scores.get(name)
            values = [*([first] if first is not None else []), summary.scores[name]]
            changed.append(f"{name} {' → '.join(format(value, score.form) for value in values)}")
    updates = f"{summary.steps} updates on {summary.device}"
    return "; ".join([", ".join(changed), updates] if changed else [updates])
