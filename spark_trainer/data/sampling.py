"""Choosing the moments of a video that a sample shows, and the size of its frames."""

import math
import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from spark_trainer.config import Sampling
from spark_trainer.data.sample import Size, Unusable


def length(meta: Mapping[str, Any], settings: Sampling) -> int:
    """Return the largest of `settings.lengths` that a video is long enough for.

    Raises:
        Unusable: it is too short for the smallest, or has too few frames a second.
    """
    for num_frames in settings.lengths:
        try:
            moments(meta, settings, num_frames, None)
            return num_frames
        except Unusable as reason:
            why = reason
    raise why


def moments(
    meta: Mapping[str, Any], settings: Sampling, num_frames: int, draw: random.Random | None
) -> tuple[float, ...]:
    """Return the seconds at which frames are taken.

    With `clip.fps` or `clip.stride` these are exactly `num_frames`, evenly spaced. Else there is
    one in each of `num_frames` equal parts of the window; fewer where the video has fewer frames.

    Args:
        meta: `meta` of the manifest's line.
        settings: the section `clip`.
        num_frames: one of `settings.lengths`.
        draw: random numbers for the moments; without it each is the middle of its range.

    Raises:
        Unusable: the video is shorter than the clip, or has too few frames a second.
    """
    if settings.fps is None and settings.stride is None:
        return _spread(meta, settings, num_frames, draw)
    if settings.source == "video":
        return _decoded(meta, settings, num_frames, draw)
    known = tuple(meta.get("frame_times") or (0.0,))
    choose = _strided if settings.stride else _paced
    return choose(known, settings, num_frames, draw)


def on_grid(times: tuple[float, ...], pose: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the nearest moments for which the `pose` step's files hold a frame.

    Raises:
        Unusable: the files end before the clip does, or no person was found in one of its frames.
    """
    numbers = [round(time * pose["fps"]) for time in times]
    if numbers[-1] > pose["frames"]:
        raise Unusable(f"its pose ends after {pose['frames'] / pose['fps']:g} s")
    numbers = [min(number, pose["frames"] - 1) for number in numbers]
    for first, last in pose.get("person_lost", ()):
        if any(first <= number <= last for number in numbers):
            raise Unusable(f"no person in the frames {first} to {last} of its pose")
    return tuple(number / pose["fps"] for number in numbers)


def size(meta: Mapping[str, Any], sizes: Sequence[Size]) -> Size:
    """Return the size whose aspect ratio is nearest to the video's, the first of equals.

    Raises:
        Unusable: there are several sizes, and the video's own is not known.
    """
    if len(sizes) == 1:
        return sizes[0]
    if not meta.get("width") or not meta.get("height"):
        raise Unusable("without width and height, by which clip.sizes are chosen")
    shape = math.log(meta["width"] / meta["height"])
    return min(sizes, key=lambda one: abs(math.log(one[0] / one[1]) - shape))


def _spread(
    meta: Mapping[str, Any], settings: Sampling, num_frames: int, draw: random.Random | None
) -> tuple[float, ...]:
    known = tuple(meta.get("frame_times") or (0.0,))
    duration = meta.get("duration") or known[-1] + 1.0
    window = min(settings.seconds or duration, duration)
    begin = (duration - window) * (draw.random() if draw else 0.5)
    if settings.source == "frames":
        known = tuple(time for time in known if begin <= time <= begin + window) or known[:1]
        count = min(num_frames, len(known))
        shares = [(i + (draw.random() if draw else 0.5)) / count for i in range(count)]
        return tuple(known[int(share * len(known))] for share in shares)
    shares = [(i + (draw.random() if draw else 0.5)) / num_frames for i in range(num_frames)]
    return tuple(begin + share * window for share in shares)


def _first(choices: int, draw: random.Random | None) -> int:
    return int(choices * draw.random()) if draw else (choices - 1) // 2


def _strided(
    known: tuple[float, ...], settings: Sampling, num_frames: int, draw: random.Random | None
) -> tuple[float, ...]:
    """Return the times of every stride-th frame on disk."""
    stride = settings.stride or 1
    span = (num_frames - 1) * stride + 1
    if span > len(known):
        raise Unusable(f"{len(known)} frames; clip.num_frames and clip.stride take {span}")
    first = _first(len(known) - span + 1, draw)
    return known[first : first + span : stride]


def _paced(
    known: tuple[float, ...], settings: Sampling, num_frames: int, draw: random.Random | None
) -> tuple[float, ...]:
    """Return the times of the frames on disk nearest to moments that are 1 / `clip.fps` apart."""
    step = 1 / (settings.fps or 1)
    span = (num_frames - 1) * step
    choices = sum(time + span <= known[-1] + 1e-3 for time in known)
    if not choices:
        raise Unusable(_short(known[-1] - known[0], span))
    begin = known[_first(choices, draw)]
    taken = tuple(_nearest(known, begin + i * step) for i in range(num_frames))
    if any(later <= earlier for earlier, later in pairwise(taken)):
        raise Unusable(
            f"its frames are too far apart for clip.fps = {settings.fps:g}; "
            "raise frames.frame_rate, or set clip.source: video"
        )
    return taken


def _nearest(known: tuple[float, ...], time: float) -> float:
    after = bisect_left(known, time)
    return min(known[max(0, after - 1) : after + 1], key=lambda other: abs(other - time))


def _decoded(
    meta: Mapping[str, Any], settings: Sampling, num_frames: int, draw: random.Random | None
) -> tuple[float, ...]:
    """Return moments in the middle of frames of the video itself."""
    duration, rate = meta.get("duration"), meta.get("fps")
    if not duration or not rate:
        raise Unusable("without duration and fps")
    if settings.fps and settings.fps > 1.01 * rate:
        raise Unusable(f"{rate:g} frames a second, fewer than clip.fps = {settings.fps:g}")
    step = 1 / settings.fps if settings.fps else (settings.stride or 1) / rate
    span = (num_frames - 1) * step
    spare = duration - 1 / rate - span
    if spare < -1e-3:
        raise Unusable(_short(duration, span))
    begin = max(0.0, spare) * (draw.random() if draw else 0.5) + 0.5 / rate
    return tuple(begin + i * step for i in range(num_frames))


def _short(has_s: float, needs_s: float) -> str:
    return f"{has_s:.2f} s of frames; the clip that is asked for takes {needs_s:.2f} s"
