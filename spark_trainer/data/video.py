"""Frames of a video at given times, decoded on demand; and frames written as a video."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

CHARACTERS = 400  # of text that a frame is as long as, roughly, once both are tokens


def frames_at(path: Path, times: Sequence[float]) -> "Iterator[Image]":
    """The frame shown at each time, upright and with square pixels.

    Args:
        path: the video.
        times: seconds from the container's start, ascending.

    Raises:
        ValueError: the file holds no frame, or can't be decoded.
        OSError: it can't be opened.
    """
    import av

    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            start = (container.start_time or 0) / av.time_base
            container.seek(int((times[0] + start) * av.time_base))
            ratio = float(stream.sample_aspect_ratio or 1)
            for frame in _shown(container.decode(stream), [time + start for time in times]):
                yield _upright(frame, ratio)
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"can't be decoded: {error}") from None


def _shown(frames, times: Sequence[float]):  # type: ignore[no-untyped-def]  # av has no stubs
    """The last frame at or before each time; the first one where there is none before."""
    shown = next(frames, None)
    if shown is None:
        raise ValueError("no frame")
    following = next(frames, None)
    for time in times:
        while following is not None and (following.time or 0.0) <= time + 1e-6:
            shown, following = following, next(frames, None)
        yield shown


def _upright(frame, ratio: float) -> "Image":  # type: ignore[no-untyped-def]
    image: Image = frame.to_image()
    if ratio != 1:
        image = image.resize((max(1, round(image.width * ratio)), image.height))
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def fitted(images: "Sequence[Image]", size: tuple[int, int]) -> "tuple[Image, ...]":
    """The middle of each image in RGB, as large as fits, at `size` (width, height) in pixels."""
    from PIL import Image, ImageOps

    return tuple(
        ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS) for image in images
    )


def mirrored(images: "Sequence[Image]") -> "tuple[Image, ...]":
    """Left and right exchanged."""
    from PIL import ImageOps

    return tuple(map(ImageOps.mirror, images))


def write(path: Path, images: "Sequence[Image]", fps: float) -> None:
    """Write frames of one size, even in width and height, as H.264 in an MP4 without sound."""
    import av

    rate = Fraction(fps).limit_denominator(1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.width, stream.height = images[0].size
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
