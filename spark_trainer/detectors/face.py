"""The crop of a person's face in each frame, for Wan2.2-Animate.

A box is left, top, right and bottom in shares of the picture's width and height; NaN where the face
was not found.
"""

import math
from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from spark_trainer.config import Pose
from spark_trainer.detectors import Person

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Boxes = NDArray[np.float32]  # (frames, 4)


def boxes(people: list[Person | None], size: tuple[int, int], settings: Pose) -> "Boxes":
    """Return the crop of each frame, with gaps of up to `face_gap_s` filled, and smoothed.

    Args:
        people: the person in each frame.
        size: width and height of the frames in pixels; a crop is one pixel or larger.
        settings: `frame_rate` frames per second, and the settings of the face.
    """
    import numpy as np

    crops = np.full((len(people), 4), np.nan)
    for number, person in enumerate(people):
        if person is not None and person.has_face:
            crops[number] = _around(person, settings.face_scale)
    crops = _bridged(crops, round(settings.face_gap_s * settings.frame_rate))
    crops = _smooth(crops, round(settings.face_smoothing_s * settings.frame_rate))
    pixel = np.array([1 / size[0], 1 / size[1]])
    crops[:, :2] = np.clip(crops[:, :2], 0, 1 - pixel)
    crops[:, 2:] = np.clip(crops[:, 2:], crops[:, :2] + pixel, 1)
    return crops.astype(np.float32)


def _around(person: Person, scale: float) -> "NDArray[np.float64]":
    """Return the box around the keypoints, grown to `scale` times its area.

    As in the official preparation (Wan-Video/Wan2.2, utils.py, `get_face_bboxes`): three quarters
    of the added height go above it.
    """
    import numpy as np

    points = person.face[:, :2].astype(np.float64)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    grow = math.sqrt(scale) - 1
    aside, more = grow * (right - left) / 2, grow * (bottom - top) / 4
    return np.array([left - aside, top - 3 * more, right + aside, bottom + more])


def _bridged(crops: "NDArray[np.float64]", longest: int) -> "NDArray[np.float64]":
    """Fill gaps of at most `longest` frames by a straight line between their ends."""
    import numpy as np

    filled = crops.copy()
    for a, b in pairwise(np.flatnonzero(~np.isnan(crops[:, 0])).tolist()):
        if 1 < b - a <= longest + 1:
            share = np.arange(1, b - a)[:, None] / (b - a)
            filled[a + 1 : b] = crops[a] + share * (crops[b] - crops[a])
    return filled


def _smooth(crops: "NDArray[np.float64]", reach: int) -> "NDArray[np.float64]":
    """Average each crop over up to `reach` frames on each side, equally many, across no gap."""
    import numpy as np

    means = crops.copy()
    for a, b in ranges(~np.isnan(crops[:, 0])):
        for number in range(a, b + 1):
            near = min(reach, number - a, b - number)
            means[number] = crops[number - near : number + near + 1].mean(axis=0)
    return means


def ranges(flags: Iterable[bool]) -> list[list[int]]:
    """Return the first and last number of each run of true values."""
    found, number = [], 0
    for flag, run in groupby(flags):
        length = len(list(run))
        if flag:
            found.append([number, number + length - 1])
        number += length
    return found
