"""Runs as lines of text: state, results, data, and the parameters that differ between them."""

import json
import time
from collections.abc import Sequence
from typing import Any

from spark_trainer.data.files import canonical_json
from spark_trainer.metrics import score
from spark_trainer.metrics.score import SCORES
from spark_trainer.runs.record import FoundRun, Values

CELL = 40  # characters of the longest value that is shown whole
UNKNOWN = "-"

Column = tuple[str, list[str]]  # heading, a cell for each run


def table(runs: Sequence[FoundRun], width: int = 0) -> str:
    """Return a line for each run below the headings.

    A table wider than `width` characters goes on below, each line beginning with its run again;
    0 is no limit.
    """
    known = [column for column in _facts(runs) if set(column[1]) != {UNKNOWN}]
    for key in dict.fromkeys(key for run in runs for key in run.parameters):
        values = [run.parameters.get(key) for run in runs]
        if any(value != values[0] for value in values):
            known.append((key, [spelled(value) for value in values]))
    return "\n\n".join(_aligned(block) for block in _blocks(known, width))


def _facts(runs: Sequence[FoundRun]) -> list[Column]:
    return [
        ("run", [run.name for run in runs]),
        ("started", [_time(run.started) for run in runs]),
        ("state", ["finished" if run.finished else "unfinished" for run in runs]),
        ("steps", [_steps(run) for run in runs]),
        *_held_out(runs),
        ("best", [_best(run) for run in runs]),
        *(
            (name, [_score(name, run.results) for run in runs])
            for name in SCORES
            if SCORES[name].column
        ),
        ("data", [run.manifest_sha256[:8] for run in runs]),
        ("videos", [str(run.videos) for run in runs]),
    ]


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _steps(run: FoundRun) -> str:
    done, limit = run.results.get("steps", 0), run.parameters.get("max_steps")
    return f"{done}" if run.finished or limit is None else f"{done} of {limit}"


def _held_out(runs: Sequence[FoundRun]) -> list[Column]:
    """Return a column for each objective, filled for the runs that are measured by it."""
    objectives = dict.fromkeys(run.objective for run in runs)
    return [
        (one.words, [_change(run) if run.objective == one else UNKNOWN for run in runs])
        for one in objectives
    ]


def _change(run: FoundRun) -> str:
    """Show the objective at the first and at the last evaluation."""
    first, last = (run.results.get(run.objective.key(which)) for which in ("first", "last"))
    return UNKNOWN if first is None or last is None else f"{first:.3f} → {last:.3f}"


def _best(run: FoundRun) -> str:
    value = run.results.get(run.objective.key("best"))
    return UNKNOWN if value is None else f"{value:.3f} at {run.results['best_step']}"


def _score(name: str, results: Values) -> str:
    """Show the last value of a score, after the first one where it is followed."""
    values = [results[key] for key in (score.first_key(name), name) if key in results]
    return " → ".join(format(value, SCORES[name].form) for value in values) or UNKNOWN


def spelled(value: Any) -> str:
    """Spell a value much as the configuration does, safe to print and cut to a cell."""
    if value is None:
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else canonical_json(value)
    half = CELL // 2
    return printable(text if len(text) <= CELL else f"{text[:half]}…{text[1 - half :]}")


def printable(text: str) -> str:
    """Escape line ends and control characters, which would move the cursor."""
    return text if text.isprintable() else json.dumps(text)


def _blocks(columns: list[Column], width: int) -> list[list[Column]]:
    """Split the columns into blocks of at most `width`; the first one leads every block."""
    first, blocks = columns[0], [columns[:1]]
    for column in columns[1:]:
        longer = [*blocks[-1], column]
        if width and len(longer) > 2 and sum(_width(one) + 2 for one in longer) - 2 > width:
            blocks.append([first, column])
        else:
            blocks[-1] = longer
    return blocks


def _width(column: Column) -> int:
    return max(map(len, [column[0], *column[1]]))


def _aligned(columns: list[Column]) -> str:
    cells = [[cell.ljust(_width(column)) for cell in [column[0], *column[1]]] for column in columns]
    return "\n".join("  ".join(line).rstrip() for line in zip(*cells, strict=True))
