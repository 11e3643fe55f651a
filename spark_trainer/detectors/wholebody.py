"""The keypoints of COCO and of COCO-WholeBody (Jin et al. 2020), as `Person` holds them.

WholeBody is 17 joints of COCO, 6 points of the feet, 68 of the face, 21 of each hand. Body and toes
are regrouped as in the official preparation of Wan2.2-Animate (pose2d_utils.py, `load_from_kp2ds`):
a toe is the middle of the big and the small one. The neck is the middle of the shoulders, with the
lower confidence of the two.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Points = NDArray[np.float32]

COCO, WHOLE = 17, 133
SHOULDERS = (5, 6)
# Numbers of COCO's joints, in the order of `BODY` without neck and toes; the neck is inserted
# after the nose.
JOINTS = (0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
TOES = ((17, 18), (20, 21))  # big and small, left and right
PARTS = {"face": slice(23, 91), "left_hand": slice(91, 112), "right_hand": slice(112, 133)}


def regroup(points: "Points") -> "dict[str, Points]":
    """Return the parts of a `Person` that the points hold; missing toes get confidence 0.

    Args:
        points: (17 or 133, 3), x, y and confidence.

    Returns:
        `body` (20, 3); of 133 points also `face` (68, 3), `left_hand` and `right_hand` (21, 3).
    """
    import numpy as np

    shoulders = points[list(SHOULDERS)]
    neck = np.append(shoulders[:, :2].mean(axis=0), shoulders[:, 2].min())
    toes = np.zeros((len(TOES), 3), points.dtype)
    if len(points) == WHOLE:
        toes = np.stack([points[list(pair)].mean(axis=0) for pair in TOES])
    body = np.concatenate([np.insert(points[list(JOINTS)], 1, neck, axis=0), toes])
    parts = PARTS if len(points) == WHOLE else {}
    return {"body": body} | {name: points[part].copy() for name, part in parts.items()}
