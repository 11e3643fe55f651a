"""Skeletons in the lines and colours that Wan2.2-Animate knows."""

import numpy as np
import pytest

from spark_trainer.detectors import BODY, POINTS, Person
from spark_trainer.detectors.skeleton import COLOURS, LIMBS, TIP, draw

SIZE = (1280, 800)


def person(**joints: tuple[float, float, float]) -> Person:
    """Somebody of whom these joints are known."""
    parts = {name: np.zeros((count, 3), np.float32) for name, count in POINTS.items()}
    for name, point in joints.items():
        parts["body"][BODY.index(name.replace("_", " "))] = point
    return Person(**parts, mask=np.zeros((1, 1), np.float32))


def test_nobody_is_black() -> None:
    assert draw(None, SIZE, 0.5).getbbox() is None
    assert draw(person(), SIZE, 0.5).getbbox() is None


def test_a_limb_in_the_dark_colour_between_joints_in_theirs() -> None:
    image = draw(person(neck=(0.25, 0.5, 1), right_shoulder=(0.5, 0.5, 1)), SIZE, 0.5)
    assert image.getpixel((320, 400)) == COLOURS[BODY.index("neck")]
    assert image.getpixel((640, 400)) == COLOURS[BODY.index("right shoulder")]
    assert image.getpixel((480, 400)) == tuple(int(0.6 * part) for part in COLOURS[0])
    left, top, right, bottom = image.getbbox()
    assert (left, right) == (317, 644), "joints of radius 800 / 200 - 1"
    assert bottom - top == 7


@pytest.mark.parametrize("confidence", [0.0, 0.49])
def test_an_unsure_joint_is_left_out_with_its_limbs(confidence: float) -> None:
    seen = draw(person(neck=(0.25, 0.5, 1)), SIZE, 0.5)
    unsure = draw(person(neck=(0.25, 0.5, 1), nose=(0.25, 0.3, confidence)), SIZE, 0.5)
    assert seen.tobytes() == unsure.tobytes()


def test_every_joint_has_a_limb_and_a_colour() -> None:
    assert {joint for limb in LIMBS for joint in limb} == set(range(len(BODY)))
    assert len(COLOURS) == len(BODY) == len(LIMBS) + 1


def test_a_hand_has_blue_points_over_coloured_fingers() -> None:
    someone = person()
    someone.left_hand[:] = np.linspace((0.2, 0.2, 1), (0.8, 0.8, 1), 21)
    image = np.asarray(draw(someone, SIZE, 0.5))
    for x, y in (someone.left_hand[:, :2] * SIZE).astype(int):
        assert tuple(image[y, x]) == TIP
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10
