"""Intervals in seconds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_trainer.data.sample import Unusable
from spark_trainer.rewards.temporal_iou import iou, merged

from .asked import asked, group, scored

LENGTH_S = 20
spans = st.lists(
    st.tuples(st.integers(0, 2 * LENGTH_S), st.integers(1, LENGTH_S)).map(
        lambda one: (one[0] / 2, one[0] / 2 + one[1] / 2)
    ),
    max_size=4,
)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("2 to 6", 1.0),
        ("2 to 4", 0.5),
        ("4 to 8", 2 / 6),
        ("2 to 3 and 3 to 6", 1.0),
        ("2 to 3, 5 to 6", 0.5),
        ("[1, 100]", 4 / 9),  # clipped to the ten seconds of the video
        ("6 to 8", 0.0),
        ("6 to 2", 0.0),
        ("2 to 6 and 9 to 8", 0.0),
        ("in the middle", 0.0),
    ],
)
def test_by_hand(answer: str, score: float) -> None:
    [found] = scored("temporal_iou", group("2 to 6", answer, meta={"duration": 10.0}))
    assert found == pytest.approx(score)


@given(spans, spans)
def test_it_is_what_counting_half_seconds_gives(one: object, other: object) -> None:
    """All ends lie on half seconds, so that each of these is inside an interval or outside."""

    def seen(intervals: list[tuple[float, float]]) -> np.ndarray:
        mask = np.zeros(2 * LENGTH_S, bool)
        for start, end in intervals:
            mask[int(2 * start) : int(2 * end)] = True
        return mask

    ours, theirs = merged(one, LENGTH_S), merged(other, LENGTH_S)  # type: ignore[arg-type]
    a, b = seen(one), seen(other)  # type: ignore[arg-type]
    expected = (a & b).sum() / (a | b).sum() if (a | b).any() else 0.0
    assert iou(ours, theirs) == pytest.approx(expected)
    assert iou(theirs, ours) == iou(ours, theirs)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("never", "names no interval"),
        ("5 to 5", "the interval 5 to 5 is empty"),
        ("8 to 12", "the interval 8 to 12 goes past the video's end, 10 s"),
        ("10.5 to 10.9", "goes past"),
    ],
)
def test_a_reference_that_is_no_part_of_the_video_is_told(reference: str, message: str) -> None:
    reward = asked("temporal_iou")
    with pytest.raises(Unusable, match=message):
        reward.check(reference, {"duration": 10.0})
    reward.check("8 to 10.4", {"duration": 10.0})  # rounded by who noted it
    reward.check("8 to 12", {})
    with pytest.raises(Unusable, match=r"expected seconds as meta\.duration \(got '10'\)"):
        reward.check("8 to 9", {"duration": "10"})
