"""Each filter drops what it is for, and says so."""

import pytest

from spark_trainer.config import Transcript
from spark_trainer.transcribers import Segment, Word, filters

TEXT = "Unless to be rather cold hearted is to be ill disposed."
SETTINGS = Transcript()


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (Segment(0.0, 2.0, TEXT, 0.1, -0.3), None),
        (Segment(0.0, 2.0, "You", 0.96), "no speech"),
        (Segment(0.0, 2.0, "little bit of a " * 30, 0.1), "repetition"),
        (Segment(0.0, 2.0, "a", 0.1, compression=9.0), "repetition"),
        (Segment(0.0, 2.0, TEXT, 0.1, -1.2), "improbable"),
        (Segment(0.0, 2.0, "…", 0.1), "no words"),
        (Segment(0.0, 2.0, "", 0.1), "no words"),
        (Segment(9.0, 12.0, TEXT), "past the end"),
    ],
)
def test_each_filter_names_itself(segment: Segment, expected: str | None) -> None:
    kept, dropped = filters.keep([segment], 8.0, SETTINGS)
    assert dropped == ({expected: 1} if expected else {})
    assert len(kept) == (expected is None)


def said(*texts: str, window: float = 0.0) -> list[Segment]:
    """One segment a second."""
    return [Segment(n + window, n + 1.0 + window, t, window=window) for n, t in enumerate(texts)]


def test_one_text_again_and_again_is_dropped_across_windows() -> None:
    segments = said(TEXT, "You.", window=0.0) + said("you", "You!", "Thank you.", window=30.0)
    kept, dropped = filters.keep(segments, 60.0, SETTINGS)
    assert [segment.text for segment in kept] == [TEXT]
    assert dropped == {"repeats": 4}  # the last window is mostly loop


def test_saying_a_thing_twice_is_no_loop() -> None:
    kept, dropped = filters.keep(said("No.", "No.", "Never.", "No."), 60.0, SETTINGS)
    assert (len(kept), dropped) == (4, {})


def test_a_window_that_is_mostly_loop_is_dropped_whole() -> None:
    kept, dropped = filters.keep(said("Welp!", "Yo!", "Yo!", "Yo.", "Hm"), 60.0, SETTINGS)
    assert (kept, dropped) == ([], {"repeats": 5})


def test_times_stay_inside_the_audio() -> None:
    words = (Word(0.9, 1.4, "Cold"), Word(1.3, 1.2, "hearted"), Word(2.0, 9.0, "man"))
    (segment,), _ = filters.keep(
        [Segment(1.0, 9.0, "Cold hearted man", words=words)], 3.0, SETTINGS
    )
    assert segment.end == 3.0
    assert [(word.start, word.end) for word in segment.words] == [
        (1.0, 1.4),
        (1.4, 1.4),
        (2.0, 3.0),
    ]
