"""A face's crop follows the face, over short gaps only, and stays within the picture."""

from collections.abc import Callable

import numpy as np
import pytest

from spark_trainer.config import Pose
from spark_trainer.detectors import POINTS, Person, face


def faces(*lefts: float | None) -> list[Person | None]:
    """People whose faces are 0.1 wide and 0.2 high, at these places; None has no face."""
    made: list[Person | None] = []
    for left in lefts:
        parts = {name: np.zeros((count, 3), np.float32) for name, count in POINTS.items()}
        if left is not None:
            parts["face"][:] = (left, 0.4, 1)
            parts["face"][1] = (left + 0.1, 0.6, 1)
        made.append(Person(**parts, mask=np.zeros((1, 1), np.float32)))
    return made


@pytest.fixture
def settings() -> Callable[..., Pose]:
    """At 10 frames a second, with a crop of the keypoints' own box."""
    plain = {"frame_rate": 10.0, "face_scale": 1.0, "face_smoothing_s": 0.0, "face_gap_s": 0.0}
    return lambda **values: Pose(**(plain | values))


def test_the_box_grows_more_upward(settings: Callable[..., Pose]) -> None:
    """By area: 1.44 is 1.2 in width and height, three quarters of the added height above."""
    [box] = face.boxes(faces(0.4), (1000, 1000), settings(face_scale=1.44))
    assert box.tolist() == pytest.approx([0.39, 0.37, 0.51, 0.61], abs=1e-6)


def test_a_short_gap_is_bridged_and_a_long_one_is_not(settings: Callable[..., Pose]) -> None:
    people = faces(0.1, None, None, 0.4, None, None, None, 0.4)
    boxes = face.boxes(people, (1000, 1000), settings(face_gap_s=0.2))
    assert boxes[:4, 0] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=1e-6)
    assert np.isnan(boxes[4:7]).all()
    assert not np.isnan(boxes[7]).any()


def test_smoothing_does_not_reach_over_a_gap(settings: Callable[..., Pose]) -> None:
    people = faces(0.1, 0.2, 0.6, None, 0.8)
    boxes = face.boxes(people, (1000, 1000), settings(face_smoothing_s=0.1))
    assert boxes[[0, 1, 2, 4], 0] == pytest.approx([0.1, 0.3, 0.6, 0.8], abs=1e-6)


def test_a_face_at_the_edge_keeps_a_pixel(settings: Callable[..., Pose]) -> None:
    [box] = face.boxes(faces(1.2), (100, 100), settings())
    assert box[2] - box[0] == pytest.approx(0.01, abs=1e-6)
    assert box[2] <= 1


def test_ranges() -> None:
    assert face.ranges([]) == []
    assert face.ranges([False, True, True, False, True]) == [[1, 2], [4, 4]]
