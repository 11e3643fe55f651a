"""A person's mask, white on black, for the mask and the background of Wan2.2-Animate."""

from typing import TYPE_CHECKING

from spark_trainer.detectors import Person

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


def draw(person: Person | None, size: tuple[int, int], threshold: float, growth_px: int) -> "Image":
    """Draw the person's mask in white on black (mode "L"); all black where there is no person.

    Args:
        person: the person, with a mask of the picture's height and width.
        size: width and height in pixels.
        threshold: least confidence of a pixel of the mask.
        growth_px: pixels by which the mask grows on every side.
    """
    import numpy as np
    from PIL import Image

    if person is None:
        return Image.new("L", size)
    return Image.fromarray(grown(person.mask >= threshold, growth_px).astype(np.uint8) * 255)


def grown(mask: "NDArray[np.bool_]", pixels: int) -> "NDArray[np.bool_]":
    """Grow a mask by so many pixels along rows and columns."""
    import numpy as np

    for axis in (0, 1):
        before = np.insert(np.cumsum(mask, axis=axis), 0, 0, axis=axis)
        positions = np.arange(mask.shape[axis])
        ends = np.minimum(positions + pixels + 1, mask.shape[axis])
        starts = np.maximum(positions - pixels, 0)
        mask = np.take(before, ends, axis) > np.take(before, starts, axis)
    return mask
