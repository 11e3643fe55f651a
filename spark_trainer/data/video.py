"""Frames of a video at given times, decoded on demand; and videos written frame by frame."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Quality = Literal["exact", "fine"]

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


def frames_on_grid(
    path: Path, rate: float, max_frames: int | None, complaints: list[str]
) -> "Iterator[Image]":
    """The frame shown at 0, 1 / rate, 2 / rate … seconds, until the last one has been shown.

    Frame k is that of `frames_at(path, [k / rate])`.

    Args:
        path: the video.
        rate: frames per second.
        max_frames: how many at most.
        complaints: what stops the decoder in the middle of a damaged file is added to it.

    Raises:
        ValueError: the file holds no frame, or can't be decoded.
        OSError: it can't be opened.
    """
    import av

    number = 0
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            stream = _pictures(container)
            stream.thread_type = "AUTO"
            start = (container.start_time or 0) / av.time_base
            ratio = float(stream.sample_aspect_ratio or 1)
            for frame in _on_grid(container.decode(stream), rate, start, stream.average_rate):
                if number == max_frames:
                    return
                yield _upright(frame, ratio)
                number += 1
    except av.error.FFmpegError as error:
        if not number:
            raise ValueError(f"can't be decoded: {error}") from None
        complaints.append(str(error))
    if not number:
        raise ValueError("no frame")


def _pictures(container: Any) -> Any:
    """The first video stream that is no cover art."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise ValueError("no video stream")


def _on_grid(frames, rate: float, start: float, own_rate: Fraction | None):  # type: ignore[no-untyped-def]
    number, shown = 0, None
    for frame in frames:
        time = (frame.time or 0.0) - start
        while shown is not None and time > number / rate + 1e-6:
            yield shown
            number += 1
        shown = frame
    if shown is None:
        return
    seconds = float((shown.duration or 0) * shown.time_base) or float(1 / (own_rate or 1))
    end = (shown.time or 0.0) - start + seconds
    while number == 0 or number / rate + 1e-6 < end:
        yield shown
        number += 1


class Writer:
    """An MP4 file of a steady rate, the same bytes every time.

    Frame k is shown at k / rate, so `frames_at` finds it there. `exact` gives back every pixel as
    it was; `fine` is H.264 in 4:2:0 at CRF 12, for what a camera took, with even sides only.
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
    with Writer(path, fps, images[0].size, "fine") as writer:
        for image in images:
            writer.add(image)


def motion(luma_HW: "Iterable[np.ndarray]") -> float:
    """How much moves from frame to frame: 0 (nothing) to 255.

    The mean absolute difference of luma (0 to 255) between successive frames.

    Args:
        luma_HW: the frames, best averaged over 8 × 8 pixels, so that grain and compression count
            little.
    """
    import numpy as np

    apart = [
        np.abs(later.astype(np.float64) - earlier).mean() for earlier, later in pairwise(luma_HW)
    ]
    return float(np.mean(apart)) if apart else 0.0
