"""Where a build stands: its steps, their jobs and the videos in them."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from spark_trainer.config import Config

# Rules without work of their own, and those whose output is all that there is to see.
NOT_SHOWN = {"all", "export", "manifest", "train", "report", "plan", "validate"}
# Of rows: the order of the sections of a configuration.
LATER = ("manifest", "encode", "train", "export")
ORDER = (*(one for one in Config.model_fields if one not in LATER), *LATER)
TEXTS = ("process", "name", "unit", "note")  # of a line that a job wrote
OF_RULE = re.compile(r"_(shard|file|part|join|run|page|one)$")


def step_of(rule: str) -> str:
    """Name the step that a rule belongs to."""
    return OF_RULE.sub("", rule)


@dataclass
class Told:
    """How far one process of a job is, as it told itself."""

    process: str
    name: str
    done: int
    total: int
    unit: str
    note: str
    first: int  # what was done when it began
    since: float

    def rate(self, now: float) -> float:
        """Return items a second."""
        return (self.done - self.first) / max(now - self.since, 1e-9)


@dataclass
class Row:
    """One step.

    Attributes:
        name: of the step.
        jobs: how many are due.
        finished: of them.
        failed: jobs that ended with an error, and were not tried again.
        running: ids of those at work.
        told: how far jobs are, by job.
        began: when the first job began, on the clock of the board.
        ended: when the last one ended.
    """

    name: str
    jobs: int
    finished: int = 0
    failed: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    told: dict[str, Told] = field(default_factory=dict)
    began: float | None = None
    ended: float | None = None

    @property
    def done(self) -> int:
        """Count the items that are done."""
        return sum(one.done for one in self.told.values())

    @property
    def total(self) -> int:
        """Count the items of the jobs that have begun."""
        return sum(one.total for one in self.told.values())

    @property
    def unit(self) -> str:
        """Name an item."""
        return next((one.unit for one in self.told.values()), "job")

    @property
    def at_work(self) -> list[Told]:
        """List the jobs that told how far they are, and aren't at their end."""
        return [one for one in self.told.values() if one.done < one.total]

    def fraction(self) -> float:
        """Return how much of the step is done, from 0 to 1."""
        inside = sum(one.done / one.total for one in self.at_work)
        return min(1.0, (self.finished + min(inside, len(self.running))) / max(1, self.jobs))

    def left(self, now: float) -> float | None:
        """Return the seconds that are left if it goes on as it did; None where nobody knows."""
        if self.unit == "update":  # a run that goes on began in the middle
            rates = [(one.total - one.done, one.rate(now)) for one in self.at_work]
            return max((left / rate for left, rate in rates if rate), default=None)
        fraction = self.fraction()
        if self.began is None or not 0 < fraction < 1:
            return None
        return (now - self.began) * (1 - fraction) / fraction


class Board:
    """The rows, kept by what Snakemake says of jobs, and what jobs say of themselves.

    Args:
        clock: tells seconds.

    Attributes:
        submits: whether jobs wait at a cluster before they are at work.
    """

    submits = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.began = clock, clock()
        self.rows: dict[str, Row] = {}
        self._steps: dict[int, str] = {}

    def plan(self, stats: Mapping[str, int]) -> None:
        """Take the number of jobs that are due, by rule."""
        for rule, count in stats.items():
            if rule not in NOT_SHOWN and rule != "total":
                step = step_of(rule)
                self.rows.setdefault(step, Row(step, 0)).jobs += count
        place = {name: number for number, name in enumerate(ORDER)}
        self.rows = dict(sorted(self.rows.items(), key=lambda one: place.get(one[0], len(place))))

    def start(self, job: int, rule: str) -> None:
        """Take the beginning of a job, which may have failed before."""
        row = self.rows.get(step_of(rule))
        if row and rule not in NOT_SHOWN:
            self._steps[job] = row.name
            row.running.add(job)
            row.failed.discard(job)
            row.began = self.clock() if row.began is None else row.began

    def finish(self, job: int) -> Row | None:
        """Take the end of a job; returns its row if that was the last one."""
        row = self.rows.get(self._steps.get(job, ""))
        if row is None or job not in row.running:
            return None
        row.running.remove(job)
        row.finished += 1
        if row.finished < row.jobs:
            return None
        row.ended = self.clock()
        return row

    def fail(self, job: int) -> Row | None:
        """Take the failure of a job; returns its row."""
        row = self.rows.get(self._steps.get(job, ""))
        if row:
            row.running.discard(job)
            row.failed.add(job)
        return row

    def tell(self, line: str) -> None:
        """Take what a job wrote of itself; a line that was cut is left out."""
        try:
            said: dict[str, Any] = json.loads(line)
            row = self.rows.get(said["name"].partition("/")[0])
            done, total, texts = int(said["done"]), int(said["total"]), map(said.get, TEXTS)
            process, name, unit, note = map(str, texts)
            known = row.told.get(str(said["job"])) if row else None
            if known and known.process == process:
                known.done, known.total, known.note = done, total, note
            elif row:  # a job that is tried again takes the place of its first process
                told = Told(process, name, done, total, unit, note, done, self.clock())
                row.told[str(said["job"])] = told
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
            return

    def shown(self) -> Iterator[tuple[Row, str]]:
        """Yield each row with what is to be said of it."""
        yield from ((row, self.said(row)) for row in self.rows.values())

    def said(self, row: Row) -> str:
        """Say how far a step is."""
        return said(row, self.clock(), self.submits)


def said(row: Row, now: float, submits: bool = False) -> str:
    """Say how far a step is.

    Args:
        row: the step.
        now: seconds on the board's clock.
        submits: whether its jobs wait at a cluster first.
    """
    if row.began is None:
        return counted(row.jobs, "job")
    if row.ended is not None:
        many = counted(row.done if row.told else row.finished, row.unit)
        return f"{many} in {lasting(row.ended - row.began)}"
    parts = []
    if row.unit == "update":
        parts += [_run(one, now) for one in row.at_work]
    elif row.total:
        rate = row.done / max(now - row.began, 1e-9)
        parts.append(f"{row.done} of {counted(row.total, row.unit)}")
        parts += [f"{rate:.1f}/s"] if row.done else []
    if row.jobs > 1:
        parts.append(f"{row.finished} of {counted(row.jobs, 'job')}")
    if submits and row.running:
        working = min(len(row.at_work), len(row.running))
        parts.append(f"{len(row.running)} submitted, {working} of them at work")
    if row.failed:
        parts.append(f"{len(row.failed)} failed")
    if row.running:
        left = row.left(now)
        parts.append(f"about {lasting(left)} left" if left else lasting(now - row.began))
    return ", ".join(parts)


def _run(one: Told, now: float) -> str:
    name = one.name.partition("/")[2]
    note = f", {one.note}" if one.note else ""
    return f"{name}: {one.done} of {counted(one.total, one.unit)}{note}"


def counted(number: int, unit: str) -> str:
    """Write a number of things."""
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def lasting(seconds: float) -> str:
    """Write a duration."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
