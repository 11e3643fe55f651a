"""Boxes around people, and who of them is the person that was there before.

A box is left, top, right, bottom, in pixels if nothing else is said.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Box = NDArray[np.float32]  # (4,)
    Boxes = NDArray[np.float32]  # (people, 4)


def follow(last: "Box | None", boxes: "Boxes") -> "Box | None":
    """Where the person is now.

    Args:
        last: the box in the picture before; None where the person was lost, or nobody was before.
        boxes: (people, 4), the surest first.

    Returns:
        The box that overlaps most with the last one, the surest where there is no last one; None
        if nobody does, or nobody is there.
    """
    if not len(boxes):
        return None
    shared = overlap(boxes[0] if last is None else last, boxes)
    most: Box = boxes[shared.argmax()]
    return most if shared.max() > 0 else None


def overlap(box: "Box", boxes: "Boxes") -> "NDArray[np.float32]":
    """Of each box, the area that it shares with one box over the area of both together."""
    import numpy as np

    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    both = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared
    ratio: NDArray[np.float32] = shared / both
    return ratio


def inside(points: "NDArray[np.float32]", box: "Box") -> bool:
    """Whether the middle of points that were found is in a box, both in one unit."""
    if not points[:, 2].any():
        return False
    middle = points[:, :2].mean(axis=0)
    return bool((box[:2] <= middle).all() and (middle <= box[2:]).all())
