"""Runs as lines of text: state, results, data, and the parameters that differ between them."""

import json
import time
from collections.abc import Sequence
from typing import Any

from spark_trainer.data.files import canonical_json
from spark_trainer.runs.record import Record, Values

CELL = 40  # characters of the longest value that is shown whole
UNKNOWN = "-"
SCORES = {"bleu": ".1f", "rouge_l": ".3f", "cider": ".2f"}

Column = tuple[str, list[str]]  # heading, a cell for each run


def table(records: Sequence[Record], width: int = 0) -> str:
    """Return a line for each run below the headings.

    A table wider than `width` characters goes on below, each line beginning with its run again;
    0 is no limit.
    """
    known = [column for column in _facts(records) if set(column[1]) != {UNKNOWN}]
    for key in dict.fromkeys(key for record in records for key in record.parameters):
        values = [record.parameters.get(key) for record in records]
        if any(value != values[0] for value in values):
            known.append((key, [spelled(value) for value in values]))
    return "\n\n".join(_aligned(block) for block in _blocks(known, width))


def _facts(records: Sequence[Record]) -> list[Column]:
    return [
        ("run", [record.name for record in records]),
        ("started", [_time(record.started) for record in records]),
        ("state", ["finished" if record.finished else "unfinished" for record in records]),
        ("steps", [_steps(record) for record in records]),
        *_held_out(records),
        ("best", [_best(record) for record in records]),
        *((name, [_score(name, record.results) for record in records]) for name in SCORES),
        ("data", [record.manifest_sha256[:8] for record in records]),
        ("clips", [str(record.clips) for record in records]),
    ]


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _steps(record: Record) -> str:
    done, limit = record.results.get("steps", 0), record.parameters.get("max_steps")
    return f"{done}" if record.finished or limit is None else f"{done} of {limit}"


def _held_out(records: Sequence[Record]) -> list[Column]:
    """Return a column for each objective, filled for the runs that are measured by it."""
    objectives = dict.fromkeys(record.objective for record in records)
    return [
        (one.words, [_change(record) if record.objective == one else UNKNOWN for record in records])
        for one in objectives
    ]


def _change(record: Record) -> str:
    """Show the objective at the first and at the last evaluation."""
    first, last = (record.results.get(record.objective.key(which)) for which in ("first", "last"))
    return UNKNOWN if first is None or last is None else f"{first:.3f} → {last:.3f}"


def _best(record: Record) -> str:
    value = record.results.get(record.objective.key("best"))
    return UNKNOWN if value is None else f"{value:.3f} at {record.results['best_step']}"


def _score(name: str, results: Values) -> str:
    return format(results[name], SCORES[name]) if name in results else UNKNOWN


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
