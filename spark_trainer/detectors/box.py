"""Boxes around people, and following one person by them.

A box is left, top, right, bottom, in pixels unless stated otherwise.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Box = NDArray[np.float32]  # (4,)
    Boxes = NDArray[np.float32]  # (people, 4)


def follow(last: "Box | None", boxes: "Boxes") -> "Box | None":
    """Choose the box of the person who is followed.

    Args:
        last: the person's box in the picture before; None where nobody was found.
        boxes: (people, 4), by falling confidence.

    Returns:
        The box that overlaps most with the last one, or the first where there is no last one; None
        if no box overlaps, or there is none.
    """
    if not len(boxes):
        return None
    shared = overlap(boxes[0] if last is None else last, boxes)
    most: Box = boxes[shared.argmax()]
    return most if shared.max() > 0 else None


def overlap(box: "Box", boxes: "Boxes") -> "NDArray[np.float32]":
    """Return of each box the area shared with `box` over the area of both together (IoU)."""
    import numpy as np

    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    both = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared
    ratio: NDArray[np.float32] = shared / both
    return ratio


def inside(points: "NDArray[np.float32]", box: "Box") -> bool:
    """Tell whether points were found with their middle in a box; both in the same unit."""
    if not points[:, 2].any():
        return False
    middle = points[:, :2].mean(axis=0)
    return bool((box[:2] <= middle).all() and (middle <= box[2:]).all())
