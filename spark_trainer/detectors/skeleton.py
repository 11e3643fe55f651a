"""Drawing a skeleton as in the training data of Wan2.2-Animate.

Lines, colours, widths and the confidence threshold are those of the official preparation
(Wan-Video/Wan2.2, human_visualization.py, `draw_aapose_by_meta_new`): limbs are ellipses in 0.6 of
a joint's colour, joints and hands lie over them, the face is not drawn.
"""

import colorsys
import math
from typing import TYPE_CHECKING

from spark_trainer.detectors import Person

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11)),
    *((11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (13, 18), (10, 19)),
)
COLOURS = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0)),
    *((0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255)),
    *((0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
    *((200, 200, 0), (100, 100, 0)),
)
FINGERS = tuple((0 if i % 4 == 0 else i, i + 1) for i in range(20))
TIP = (0, 0, 255)


def draw(person: Person | None, size: tuple[int, int], min_confidence: float) -> "Image":
    """Draw the skeleton of a person on black; a black image where there is no person.

    Args:
        person: the person, with keypoints.
        size: width and height in pixels.
        min_confidence: keypoints below it are left out, and limbs that end there too.
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", size)
    if person is None:
        return canvas
    pen = ImageDraw.Draw(canvas)
    width = max(min(size) // 200 - 1, 1)
    _body(pen, _pixels(person.body, size), person.body[:, 2] >= min_confidence, width)
    for hand in (person.left_hand, person.right_hand):
        _hand(pen, _pixels(hand, size), hand[:, 2] >= min_confidence, max(width // 2, 1))
    return canvas


def _pixels(points: "NDArray[np.float32]", size: tuple[int, int]) -> "NDArray[np.int64]":
    pixels: NDArray[np.int64] = (points[:, :2] * size).astype(int)
    return pixels


def _body(
    pen: "ImageDraw", points: "NDArray[np.int64]", seen: "NDArray[np.bool_]", width: int
) -> None:
    for (a, b), colour in zip(LIMBS, COLOURS[: len(LIMBS)], strict=True):
        if seen[a] and seen[b]:
            dark = tuple(int(0.6 * part) for part in colour)
            pen.polygon(_ellipse(points[a], points[b], width), fill=dark)
    for point, colour, there in zip(points, COLOURS, seen, strict=True):
        if there:
            _dot(pen, point, width, colour)


def _hand(
    pen: "ImageDraw", points: "NDArray[np.int64]", seen: "NDArray[np.bool_]", width: int
) -> None:
    for number, (a, b) in enumerate(FINGERS):
        if seen[a] and seen[b]:
            hue = colorsys.hsv_to_rgb(number / len(FINGERS), 1.0, 1.0)
            colour = tuple(int(255 * part) for part in hue)
            pen.line([*points[a].tolist(), *points[b].tolist()], fill=colour, width=width)
    for point, there in zip(points, seen, strict=True):
        if there:
            _dot(pen, point, width, TIP)


def _dot(
    pen: "ImageDraw", point: "NDArray[np.int64]", radius: int, colour: tuple[int, ...]
) -> None:
    x, y = point.tolist()
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def _ellipse(
    a: "NDArray[np.int64]", b: "NDArray[np.int64]", width: int
) -> list[tuple[float, float]]:
    """Return the outline of an ellipse from one point to the other, `width` to each side."""
    (ax, ay), (bx, by) = a.tolist(), b.tolist()
    x, y, half = (ax + bx) / 2, (ay + by) / 2, math.hypot(ax - bx, ay - by) / 2
    angle = math.atan2(ay - by, ax - bx)
    cos, sin = math.cos(angle), math.sin(angle)
    outline = []
    for degrees in range(0, 360, 6):
        u, v = half * math.cos(math.radians(degrees)), width * math.sin(math.radians(degrees))
        outline.append((x + u * cos - v * sin, y + u * sin + v * cos))
    return outline
