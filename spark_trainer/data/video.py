"""Writing videos frame by frame, and shaping frames for training."""

from collections.abc import Sequence
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


def fitted(images: "Sequence[Image]", size: tuple[int, int]) -> "tuple[Image, ...]":
    """Scale and crop each image around its middle to `size` (width, height) in pixels, in RGB."""
    from PIL import Image, ImageOps

    return tuple(
        ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS) for image in images
    )


def mirrored(images: "Sequence[Image]") -> "tuple[Image, ...]":
    """Mirror each image, left and right exchanged."""
    from PIL import ImageOps

    return tuple(map(ImageOps.mirror, images))


def write(path: Path, images: "Sequence[Image]", fps: float) -> None:
    """Write frames of one size, even in width and height, as H.264 in an MP4 without sound."""
    with Writer(path, fps, images[0].size, "fine") as writer:
        for image in images:
            writer.add(image)
