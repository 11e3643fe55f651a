"""From what is said in a file to windows of at most 30 s, which hold whole segments.

A window starts with a segment, and takes the next ones as long as they end within 30 s of its
start; the first that doesn't starts the next window. Its sound goes on to where the next window
starts, if that is within the 30 s. A segment that can't be used, and its sound, is in no window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from spark_trainer.speech import WINDOW_S
from spark_trainer.speech.segments import Segment

SLACK_S = 0.5  # by which times of segments may overlap, or pass the end of the sound
LEAST_SILENCE_S = 5.0  # length of a stretch without speech that is a window of its own
EPSILON_S = 1e-6


@dataclass(frozen=True)
class Window:
    """A stretch of a file, in seconds from the file's start.

    Attributes:
        start: where it starts.
        end: where its sound ends, where its text is learnt without times.
        segments: what is said in it; none where nobody speaks.
        following: the segment that the end of 30 s cuts; None where it cuts none.
    """

    start: float
    end: float
    segments: tuple[Segment, ...] = ()
    following: Segment | None = None

    def end_with_times(self, duration: float) -> float:
        """Return where its sound ends if the start of the segment that is cut is learnt."""
        return self.end if self.following is None else min(self.start + WINDOW_S, duration)


@dataclass(frozen=True)
class _Checked:
    """A segment, and why it can't be used; None where it can."""

    segment: Segment
    wrong: str | None


def windows(segments: Sequence[Segment], duration: float) -> tuple[list[Window], list[str]]:
    """Cut a file into windows.

    Args:
        segments: all that is said in the file.
        duration: its length in seconds.

    Returns:
        the windows in the order of time, those without speech too, and what can't be used of the
        segments, with the reason.
    """
    checked = _checked(segments, duration)
    spoken = list(_spoken(checked, duration))
    found = sorted([*spoken, *_silences(checked, spoken, duration)], key=lambda one: one.start)
    return found, [_named(one) for one in checked if one.wrong is not None]


def silences(segments: Sequence[Segment], duration: float) -> list[tuple[float, float]]:
    """Return start and end of the stretches of a file in which nobody speaks for long.

    Args:
        segments: all that is said in the file.
        duration: its length in seconds.
    """
    found, reached = [], 0.0
    told = sorted((one.start, one.end) for one in segments if one.text)
    for start, end in [*told, (duration, duration)]:
        stop = min(start, duration)
        if stop - reached >= LEAST_SILENCE_S:
            found.append((reached, stop))
        reached = max(reached, end)
    return found


def _named(one: _Checked) -> str:
    """Say what is wrong with a segment, and where it stands."""
    place = f"{one.segment.place}: " if one.segment.place else ""
    return f"{place}the segment at {one.segment.start:.2f} s {one.wrong}"


def _checked(segments: Sequence[Segment], duration: float) -> list[_Checked]:
    """Look at each segment, in the order of time; small overlaps are settled."""
    found: list[_Checked] = []
    reached = 0.0
    for one in sorted((one for one in segments if one.text), key=lambda one: one.start):
        wrong = _wrong(one, duration)
        if wrong is None and one.start < reached - SLACK_S:
            wrong = "overlaps the one before"
            if found[-1].wrong is None:
                found[-1] = _Checked(found[-1].segment, "overlaps the next")
        settled = replace(one, start=max(one.start, reached), end=min(one.end, duration))
        if wrong is None and settled.end <= settled.start:
            wrong = "is as long as it overlaps the one before"
        found.append(_Checked(one if wrong else settled, wrong))
        reached = max(reached, min(one.end, duration))
    return found


def _wrong(one: Segment, duration: float) -> str | None:
    if one.end <= one.start:
        return f"ends at {one.end:.2f} s"
    if one.start < 0 or one.start >= duration or one.end > duration + SLACK_S:
        return f"is not within the {duration:.2f} s of sound"
    if one.end - one.start > WINDOW_S + EPSILON_S:
        return f"is {one.end - one.start:.2f} s long; expected at most {WINDOW_S:.0f} s"
    return None


def _spoken(checked: Sequence[_Checked], duration: float) -> Iterator[Window]:
    """Yield the windows in which somebody speaks."""
    place = 0
    while place < len(checked):
        if checked[place].wrong is not None:
            place += 1
            continue
        count = _fitting(checked, place)
        inside = tuple(one.segment for one in checked[place : place + count])
        place += count
        start, rest = inside[0].start, checked[place : place + 1]
        last = min(start + WINDOW_S, duration)
        following = next((one.segment for one in rest if one.segment.start < last), None)
        end = last if following is None else max(inside[-1].end, following.start)
        cut = following is not None and rest[0].wrong is None and following.end > last
        yield Window(start, end, inside, following if cut else None)


def _fitting(checked: Sequence[_Checked], place: int) -> int:
    """Count the segments that go into one window, from the one at `place` on."""
    first = checked[place].segment
    for count in range(len(checked) - place):
        one = checked[place + count]
        late = one.segment.end - first.start > WINDOW_S + EPSILON_S
        if one.wrong is not None or late or one.segment.language != first.language:
            return count
    return len(checked) - place


def _silences(
    checked: Sequence[_Checked], spoken: Sequence[Window], duration: float
) -> Iterator[Window]:
    """Yield windows of what lies between segments and no window has, where that is long enough."""
    taken = [(one.start, one.end) for one in spoken]
    taken += [(one.segment.start, one.segment.end) for one in checked if one.wrong is not None]
    reached = 0.0
    for start, end in [*sorted(taken), (duration, duration)]:
        last = min(start, duration)
        while last - reached >= LEAST_SILENCE_S:
            stop = min(reached + WINDOW_S, last)
            yield Window(reached, stop)
            reached = stop
        reached = max(reached, end)
