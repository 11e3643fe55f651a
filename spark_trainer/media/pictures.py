"""The frames of a video: from the start, at given times, on a grid.

There is one definition: the frame at `t` seconds is the last one whose time is at or before `t`,
the first one where there is none. Seconds count from the file's origin (`source.Source.origin`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.media import render
from spark_trainer.media.render import Deinterlace
from spark_trainer.media.source import PAUSE_S, Source, Unreadable, converting, opened

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_MEGAPIXELS = 150.0  # a frame of 16K has 133
MAX_SIDE_PX = 65500  # JPEG's own limit
TOLERANCE_S = 1e-6  # times are kept in whole microseconds

# Containers whose index tells key frames from others. In the rest (transport streams, AVI …) a
# seek may end at any other frame than the one that was asked for: they are read from the start.
INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
LOOK_BACK_S = (0.0, 2.0, 10.0)  # a seek is tried so far before a time; then all is read


@dataclass(frozen=True)
class Picture:
    """One decoded frame.

    `time` and `duration` are seconds, `ratio` is the width of a pixel over its height.
    """

    time: float
    duration: float
    ratio: float
    frame: Any

    def image(self, deinterlace: Deinterlace = "auto", max_side_px: int | None = None) -> "Image":
        """Return the frame upright, with square pixels, in RGB; see `render.image`."""
        with converting("a frame"):
            return render.image(self.frame, self.ratio, deinterlace, max_side_px)


def video_stream(source: Source) -> Any:
    """Return a file's video stream.

    Raises:
        Unreadable: there is none, or no decoder for it.
    """
    stream = source.video
    if stream is None:
        raise Unreadable("no video stream")
    if stream.codec_context is None:
        raise Unreadable(f"no decoder for its video stream ({source.format})")
    return stream


def read(
    source: Source, max_megapixels: float = MAX_MEGAPIXELS, sought: bool = False
) -> Iterator[Picture]:
    """Yield every frame in the order in which they are shown, from the file's position on.

    After a seek (`sought`) the first is the key frame: frames shown before it depend on others
    that were not read.

    A time that is missing, is not later than the one before, or is more than an hour ahead is
    damage: the frame gets the time right after the one before.

    Raises:
        Unreadable: no video stream, or a frame larger than the limit.
        OSError: the file can't be read.
    """
    stream = video_stream(source)
    step = step_s(stream)
    ratios = _Ratios(stream)
    last: float | None = None
    for frame, packet in source.decoded(stream):
        ratio = ratios.of(frame, packet)
        if sought and (frame.pts is None or frame.pts < (source.entered_at or 0)):
            continue
        _check_size(frame, ratio, max_megapixels)
        time = 0.0 if last is None else last + step
        if frame.pts is not None:
            stamped = float(frame.pts * stream.time_base) - source.origin
            earliest = -math.inf if last is None else last + TOLERANCE_S
            latest = math.inf if sought and last is None else (last or 0.0) + PAUSE_S
            time = stamped if earliest < stamped < latest else time
        duration = float((frame.duration or 0) * stream.time_base)
        yield Picture(time, duration if 0 < duration < PAUSE_S else step, ratio, frame)
        last = time


def step_s(stream: Any) -> float:
    """Return the seconds from frame to frame, as the container says; 1/25 without a valid rate."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 1 / PAUSE_S < rate < 10_000:
            return float(1 / rate)
    return 1 / 25


class _Ratios:
    """The width of a pixel over its height, of each frame, which may change inside a file.

    The container's value counts until the stream itself gives another one. Decoders return frames
    later than they read them, so the value read with a packet is kept for the frame of its time.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._first = stream, stream.codec_context.sample_aspect_ratio
        self._kept: dict[int, float] = {}

    def _now(self) -> float:
        own = self._stream.codec_context.sample_aspect_ratio
        ratio = own if own != self._first else self._stream.sample_aspect_ratio
        return float(ratio) if ratio and ratio > 0 else 1.0

    def of(self, frame: Any, packet: Any) -> float:
        """Return the ratio of a frame that this packet completed."""
        if packet is not None and packet.pts is not None:
            self._kept[packet.pts] = self._now()
        return self._kept.pop(frame.pts, self._now())


def _check_size(frame: Any, ratio: float, max_megapixels: float) -> None:
    width, height = render.shown_size(frame, ratio, None)
    if width * height > max_megapixels * 1e6 or max(width, height) > MAX_SIDE_PX:
        raise Unreadable(
            f"a frame is shown at {width} × {height} pixels; at most {MAX_SIDE_PX} a side and "
            f"max_megapixels ({max_megapixels:g}) are read"
        )


def at(path: Path, times: Sequence[float]) -> Iterator[Picture]:
    """Yield the frame at each time.

    Args:
        path: the video.
        times: seconds from the file's origin, ascending.

    Raises:
        Unreadable: the file is no video, or holds no frame.
        OSError: the file can't be read.
    """
    with opened(path) as source:
        if pictures := _sought(source, times[0]):
            yield from shown(pictures, times)
            return
    with opened(path) as source:
        yield from shown(read(source), times)


def _sought(source: Source, time: float) -> Iterator[Picture] | None:
    """Return frames from one at or before a time on, by a seek; None where no seek finds it."""
    stream = video_stream(source)
    if source.format not in INDEXED:
        return None
    for back in LOOK_BACK_S:
        if time - back < LOOK_BACK_S[1]:
            return None
        ticks = int((time - back + source.origin) / stream.time_base)
        source.container.seek(ticks, stream=stream)
        pictures = read(source, sought=True)
        first = next(pictures, None)
        if first is not None and first.time <= time + TOLERANCE_S:
            return chain([first], pictures)
    return None


def shown(pictures: Iterator[Picture], times: Sequence[float]) -> Iterator[Picture]:
    """Yield the last frame at or before each time; the first one where there is none before.

    Raises:
        Unreadable: there is no frame at all.
    """
    now = next(pictures, None)
    if now is None:
        raise Unreadable("no decodable frame")
    following = next(pictures, None)
    for time in times:
        while following is not None and following.time <= time + TOLERANCE_S:
            now, following = following, next(pictures, None)
        yield now


def on_grid(pictures: Iterator[Picture], rate: float) -> Iterator[Picture]:
    """Yield the frame at 0, 1 / rate, 2 / rate … seconds, until the last one has been shown.

    Raises:
        Unreadable: there is no frame at all.
    """
    number, now = 0, None
    for picture in pictures:
        while now is not None and picture.time > number / rate + TOLERANCE_S:
            yield now
            number += 1
        now = picture
    if now is None:
        raise Unreadable("no decodable frame")
    while number == 0 or number / rate + TOLERANCE_S < now.time + now.duration:
        yield now
        number += 1


def steady(pictures: Iterator[Picture], rate: float) -> Iterator[Picture]:
    """Yield the first frame, and then the first at or after each multiple of 1 / rate seconds.

    A gap gives fewer frames, never a repeated or mistimed one.
    """
    cell = None
    for picture in pictures:
        own = math.floor(picture.time * rate + TOLERANCE_S)
        if cell is None or own > cell:
            cell = own
            yield picture
