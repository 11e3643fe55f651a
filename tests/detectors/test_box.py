"""Of several people the one who was there before is followed."""

import numpy as np
import pytest

from spark_trainer.detectors.box import follow, inside, overlap

from .tiny import boxes


def points(*places: tuple[float, float]) -> np.ndarray:
    """Sure points at these places."""
    return np.array([(x, y, 1) for x, y in places], np.float32)


def test_who_overlaps_is_followed_and_not_the_surest() -> None:
    [at] = boxes(100)
    assert follow(None, boxes(0, 300))[0] == 0
    assert follow(at, boxes(300, 190, 120))[0] == 120
    assert follow(at, boxes(300, 200)) is None, "side by side"
    assert follow(at, boxes()) is None


def test_overlap_is_the_shared_area_over_that_of_both() -> None:
    [at] = boxes(100)
    assert overlap(at, boxes(100, 150, 300)).tolist() == pytest.approx([1, 1 / 3, 0])


def test_points_are_in_a_box_by_their_middle() -> None:
    [at] = boxes(100)
    assert inside(points((110, 60), (190, 160)), at)
    assert not inside(points((110, 60), (190, 260)), at)
    assert not inside(points((110, 60)) * (1, 1, 0), at), "not found"
