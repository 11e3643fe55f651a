"""Writing videos frame by frame, and shaping frames for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

Quality = Literal["exact", "fine"]

CHARACTERS = 400  # of text that take about as many tokens as one frame


class Writer:
    """An MP4 file of a constant rate; the same frames give the same bytes.

    Frame k is shown at k / rate, so `media.pictures.at` finds it there. `exact` keeps every pixel
    as it is; `fine` is H.264 in 4:2:0 at CRF 12, for camera pictures, and needs even sides.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int], quality: Quality) -> None:
        import av

        exact = quality == "exact"
        codec = "libx264rgb" if exact else "libx264"
        options = {"qp": "0"} if exact else {"crf": "12"}
        self._container = av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"})
        self._stream = self._container.add_stream(
            codec,
            rate=Fraction(rate).limit_denominator(1001),
            options=options | {"preset": "veryfast", "bf": "0", "threads": "1"},
        )
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "rgb24" if exact else "yuv420p"

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._container:
            if kind is None:
                self._container.mux(self._stream.encode())

    def add(self, image: "Image") -> None:
        """Write the next frame."""
        import av

        self._container.mux(self._stream.encode(av.VideoFrame.from_image(image)))


@dataclass(frozen=True)
class Resizing:
    """How frames come to the size at which a sample shows them.

    Attributes:
        size: (width, height) in pixels, which a frame is scaled to cover and then cropped to.
        max_side_px: without a `size`, a longer side is shrunk to it.
    """

    size: tuple[int, int] | None
    max_side_px: int | None

    def scaled(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size that a frame of this one is scaled to, before it is cropped."""
        longest = max(size)
        ratio = min(self.max_side_px or longest, longest) / longest
        if self.size:
            ratio = max(self.size[0] / size[0], self.size[1] / size[1])
        return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))

    def applied(self, image: "Image") -> "Image":
        """Return a frame resized, in RGB."""
        if self.size:
            return fitted([image], self.size)[0]
        return _rgb(image).resize(self.scaled(image.size))

    def decoded(self, image: "Image") -> "Image":
        """Return a frame resized, of whose JPEG only the pixels that this needs are decoded.

        libjpeg decodes a half, a quarter or an eighth of each side by a smaller inverse cosine
        transform, never less than the size that is wanted; other formats are decoded in full.

        Args:
            image: a file that is opened, and not decoded yet.
        """
        from PIL import Image

        size = self.scaled(image.size)
        # Where a side is no multiple of the scale, its last pixel reaches beyond the frame.
        _, (_, _, *region) = image.draft(None, size) or ("", (0, 0, *image.size))
        if not self.size:
            return _rgb(image).resize(size, box=(0, 0, *region))
        box = _middle((region[0], region[1]), self.size)
        return _rgb(image).resize(self.size, Image.Resampling.LANCZOS, box)


def _middle(size: tuple[float, float], shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest box of a shape's aspect ratio around the middle of an image's size."""
    (width, height), ratio = size, shape[0] / shape[1]
    crop = min(width, height * ratio), min(height, width / ratio)
    left, top = (width - crop[0]) / 2, (height - crop[1]) / 2
    return left, top, width - left, height - top


def fitted(images: "Sequence[Image]", size: tuple[int, int]) -> "tuple[Image, ...]":
    """Scale and crop each image around its middle to `size` (width, height) in pixels, in RGB."""
    from PIL import Image, ImageOps

    return tuple(ImageOps.fit(_rgb(image), size, Image.Resampling.LANCZOS) for image in images)


def _rgb(image: "Image") -> "Image":
    """Return an image in RGB; PIL would copy one that is so already."""
    return image if image.mode == "RGB" else image.convert("RGB")


def mirrored(images: "Sequence[Image]") -> "tuple[Image, ...]":
    """Mirror each image, left and right exchanged."""
    from PIL import ImageOps

    return tuple(map(ImageOps.mirror, images))


def write(path: Path, images: "Sequence[Image]", fps: float) -> None:
    """Write frames of one size, even in width and height, as H.264 in an MP4 without sound."""
    with Writer(path, fps, images[0].size, "fine") as writer:
        for image in images:
            writer.add(image)
