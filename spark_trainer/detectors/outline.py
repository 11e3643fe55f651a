"""A person's outline, white on black, as Wan2.2-Animate's mask and background want it."""

from typing import TYPE_CHECKING

from spark_trainer.detectors import Person

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


def draw(person: Person | None, size: tuple[int, int], threshold: float, growth_px: int) -> "Image":
    """White where the person is, in shades of grey ("L"); black alone where there is none.

    Args:
        person: whose mask, of the picture's height and width.
        size: width and height in pixels.
        threshold: how sure a pixel has to be the person's.
        growth_px: how far the outline is moved outward.
    """
    import numpy as np
    from PIL import Image

    if person is None:
        return Image.new("L", size)
    return Image.fromarray(grown(person.mask >= threshold, growth_px).astype(np.uint8) * 255)


def grown(mask: "NDArray[np.bool_]", pixels: int) -> "NDArray[np.bool_]":
    """A mask with everything that is at most so many pixels away, in rows and in columns."""
    import numpy as np

    for axis in (0, 1):
        before = np.insert(np.cumsum(mask, axis=axis), 0, 0, axis=axis)
        places = np.arange(mask.shape[axis])
        ends = np.minimum(places + pixels + 1, mask.shape[axis])
        starts = np.maximum(places - pixels, 0)
        mask = np.take(before, ends, axis) > np.take(before, starts, axis)
    return mask
