"""Reward `temporal_iou`: when something happens in the video."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from spark_trainer.data.sample import Unusable
from spark_trainer.rewards import reading
from spark_trainer.rewards.base import Comparing
from spark_trainer.rewards.reading import Interval

SLACK_S = 1.0  # that an annotation may go past the video's end, as rounded ones do


class Moments(NamedTuple):
    """Merged intervals, and the video's duration in seconds where it is known."""

    merged: list[Interval]
    duration_s: float | None


class TemporalIou(Comparing[Moments]):
    """|∩| / |∪| of the intervals that answer and reference name, in seconds.

    Overlapping intervals are merged and all are clipped to the duration, `meta.duration`. An answer
    without an interval, or with one whose end is not after its start, gets 0. VideoChat-R1
    (arXiv:2504.06958) has one interval each, and divides by the hull of both.
    """

    name = "temporal_iou"
    problem_types = ("temporal grounding",)

    def read(self, reference: str, meta: Mapping[str, Any]) -> Moments:
        """Return the reference's intervals; see `Comparing`."""
        duration_s, found = meta.get("duration"), reading.intervals(reference)
        if not isinstance(duration_s, int | float | None):
            raise Unusable(f"temporal_iou: expected seconds as meta.duration (got {duration_s!r})")
        if not found:
            raise Unusable(f"temporal_iou: the reference {reference!r} names no interval")
        for start, end in found:
            if end <= start:
                raise Unusable(f"temporal_iou: the interval {start:g} to {end:g} is empty")
            if duration_s is not None and (end > duration_s + SLACK_S or start >= duration_s):
                raise Unusable(
                    f"temporal_iou: the interval {start:g} to {end:g} goes past the video's end, "
                    f"{duration_s:g} s"
                )
        return Moments(merged(found, duration_s), duration_s)

    def score(self, said: str, wanted: Moments) -> float:
        """See `Comparing`."""
        found = reading.intervals(said)
        if not found or any(end <= start for start, end in found):
            return 0.0
        return iou(merged(found, wanted.duration_s), wanted.merged)


def merged(intervals: Sequence[Interval], duration_s: float | None) -> list[Interval]:
    """Return intervals in the order of time, those that touch as one, clipped to a duration."""
    joined: list[Interval] = []
    for start, end in sorted(intervals):
        if duration_s is not None:
            start, end = min(start, duration_s), min(end, duration_s)
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif start < end:
            joined.append((start, end))
    return joined


def iou(some: Sequence[Interval], others: Sequence[Interval]) -> float:
    """Return the common seconds over the seconds of both; each side's intervals are disjoint."""
    common = sum(
        max(0.0, min(end, other_end) - max(start, other_start))
        for start, end in some
        for other_start, other_end in others
    )
    total = sum(end - start for start, end in (*some, *others)) - common
    return common / total if total > 0 else 0.0
