"""How much moves from frame to frame."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

CELL_PX = 8  # side of the squares whose mean luma is compared, so that grain counts little


def cells(image: "Image") -> "np.ndarray":
    """Compute the mean luma, 0 to 255, of each square of a frame."""
    import numpy as np

    return np.asarray(image.convert("L").reduce(CELL_PX), np.float64)


def mean(moved: list[float]) -> float:
    """Compute a video's motion as the mean of that between its frames; 0 for a single frame."""
    return sum(moved) / len(moved) if moved else 0.0


def between(before: "np.ndarray", after: "np.ndarray") -> float:
    """Compute the mean absolute difference of two frames' cells, 0 (nothing moves) to 255."""
    import numpy as np

    return float(np.abs(after - before).mean())
