"""Windows of whole segments, whatever the segments are."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_trainer.speech import WINDOW_S
from spark_trainer.speech.segments import Segment
from spark_trainer.speech.windows import LEAST_SILENCE_S, Window, silences, windows

ROUNDING = 1e-6
GAPS = st.lists(
    st.tuples(st.floats(0, 40), st.floats(0.1, 29.9), st.sampled_from(["en", "de"])), max_size=12
)


def laid_out(gaps: list[tuple[float, float, str]]) -> list[Segment]:
    """Segments after each other, from pauses and lengths."""
    found, reached = [], 0.0
    for pause, length, language in gaps:
        start, reached = reached + pause, reached + pause + length
        found.append(Segment(start, reached, "said", language))
    return found


@settings(max_examples=200, deadline=None)
@given(GAPS, st.floats(0.01, 100))
def test_each_segment_is_whole_in_one_window(
    gaps: list[tuple[float, float, str]], rest: float
) -> None:
    segments = laid_out(gaps)
    duration = (segments[-1].end if segments else 0.0) + rest
    found, wrong = windows(segments, duration)
    assert not wrong
    assert [one for window in found for one in window.segments] == segments
    for window, after in pairwise([*found, Window(duration, duration)]):
        assert 0 <= window.start < window.end <= window.start + WINDOW_S + ROUNDING
        assert window.end <= after.start + ROUNDING
        assert window.end_with_times(duration) <= min(duration, window.start + WINDOW_S) + ROUNDING
        assert len({one.language for one in window.segments}) <= 1
        if window.segments:
            assert window.start == window.segments[0].start
            assert window.segments[-1].end <= window.end + ROUNDING
        else:
            assert window.end - window.start >= LEAST_SILENCE_S - ROUNDING
        if window.following:
            assert window.following == after.segments[0]
            assert window.following.end > window.start + WINDOW_S
    heard = sum(window.end - window.start for window in found)
    assert duration - heard <= (len(segments) + 1) * LEAST_SILENCE_S + ROUNDING


def test_a_window_ends_before_the_segment_that_it_cuts() -> None:
    first, second, third = (Segment(at, at + 12, "x") for at in (1, 14, 27))
    found, _ = windows([first, second, third], 60)
    assert found[0] == Window(1, 27, (first, second), third)
    assert found[0].end_with_times(60) == 31
    assert found[1] == Window(27, 57, (third,))


@pytest.mark.parametrize(
    ("segment", "why"),
    [
        (Segment(10, 41, "x"), r"10.00 s is 31.00 s long; expected at most 30"),
        (Segment(10, 9, "x"), "10.00 s ends at 9.00 s"),
        (Segment(49, 60, "x"), "49.00 s is not within the 50.00 s of sound"),
        (Segment(51, 52, "x"), "51.00 s is not within the 50.00 s of sound"),
    ],
)
def test_what_no_window_can_hold_is_left_out_with_its_sound(segment: Segment, why: str) -> None:
    before, after = Segment(0, 8, "before"), Segment(45, 48, "after")
    found, wrong = windows([before, segment, after], 50)
    assert len(wrong) == 1
    assert why in wrong[0]
    assert [one for window in found for one in window.segments] == [before, after]
    assert not any(one.start < segment.start < one.end for one in found)


def test_nobody_is_silent_after_the_end_of_the_sound() -> None:
    """However late a segment is said to be."""
    late = Segment(360_000, 360_001, "x")
    found, wrong = windows([Segment(0, 8, "a"), late], 50)
    assert len(wrong) == 1
    assert found == [Window(0, 30, (Segment(0, 8, "a"),)), Window(30, 50)]
    assert silences([Segment(0, 8, "a"), late], 50) == [(8, 50)]


def test_many_windows_take_seconds() -> None:
    """A window looks at its own segments alone: 60,000 of two languages in turn."""
    said = [Segment(at, at + 1, "x", "de" if at % 2 else "en") for at in range(60_000)]
    began = time.process_time()
    found, wrong = windows(said, 60_000)
    assert time.process_time() - began < 3
    assert not wrong
    assert len(found) == len(said)


def test_what_is_left_out_is_named_by_its_place() -> None:
    _, wrong = windows([Segment(10, 9, "x", place="said.csv:3")], 50)
    assert wrong == ["said.csv:3: the segment at 10.00 s ends at 9.00 s"]


def test_segments_that_overlap_are_both_left_out() -> None:
    found, wrong = windows([Segment(0, 8, "a"), Segment(5, 9, "b"), Segment(10, 12, "c")], 12)
    assert [line.partition(" s ")[2] for line in wrong] == [
        "overlaps the next",
        "overlaps the one before",
    ]
    assert [window.segments for window in found] == [(Segment(10, 12, "c"),)]


def test_small_overlaps_are_settled() -> None:
    found, wrong = windows([Segment(0, 8.2, "a"), Segment(8, 12.3, "b")], 12)
    assert not wrong
    assert found == [Window(0, 12, (Segment(0, 8.2, "a"), Segment(8.2, 12, "b")))]


def test_long_silences_lie_between_segments() -> None:
    """Whatever the order of the segments, and where one lies within another."""
    spans = [(40, 41, "c"), (6, 20, "a"), (7, 8, "b"), (24.9, 25, "d"), (30, 30, "")]
    said = [Segment(*span) for span in spans]
    assert silences(said, 46) == [(0, 6), (25, 40), (41, 46)]
    assert silences([Segment(0, 9, "whole")], 9) == []
