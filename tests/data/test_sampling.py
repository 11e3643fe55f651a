"""Which moments a clip shows, and at which size."""

import random
from typing import Any

import numpy as np
import pytest

from spark_trainer.config import Sampling
from spark_trainer.data import sampling
from spark_trainer.data.sample import Unusable

TIMES = tuple(i / 8 for i in range(40))  # five seconds, eight frames a second


def moments(meta: dict[str, Any], draw: random.Random | None = None, **keys: Any) -> list[float]:
    settings = Sampling(**keys)
    return list(sampling.moments(meta, settings, settings.lengths[0], draw))


def test_frames_at_a_rate_lie_evenly_in_the_middle() -> None:
    meta = {"frame_times": TIMES, "duration": 5.0, "fps": 24.0}
    assert moments(meta, num_frames=5, fps=2) == [1.375 + i / 2 for i in range(5)]
    assert moments(meta, num_frames=4, stride=4) == [1.625 + i / 2 for i in range(4)]
    assert moments(meta, num_frames=40, fps=8) == list(TIMES)
    decoded = moments(meta, num_frames=5, fps=6, source="video")
    assert np.diff(decoded) == pytest.approx([1 / 6] * 4)
    strided = moments(meta, num_frames=120, stride=1, source="video")
    assert strided == pytest.approx([(i + 0.5) / 24 for i in range(120)])


def test_chance_moves_the_whole_clip() -> None:
    meta = {"frame_times": TIMES, "duration": 5.0, "fps": 24.0}
    for keys in ({"fps": 4}, {"stride": 2}, {"fps": 12, "source": "video"}):
        seen = [moments(meta, random.Random(i), num_frames=6, **keys) for i in range(60)]
        begins = {found[0] for found in seen}
        assert len(begins) > 15
        assert all(np.ptp(np.diff(found)) < 1e-9 for found in seen)
        assert min(begins) < 0.5
        assert max(found[-1] for found in seen) > 4.5
        assert max(found[-1] for found in seen) < 5


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"num_frames": 41, "fps": 8}, "4.88 s of frames; the clip .* takes 5.00 s"),
        ({"num_frames": 15, "stride": 3}, "40 frames; clip.num_frames and clip.stride take 43"),
        ({"num_frames": 8, "fps": 16}, "too far apart for clip.fps = 16; raise frames.frame_rate"),
        ({"num_frames": 130, "fps": 24, "source": "video"}, "5.00 s of frames; .* 5.38 s"),
        ({"num_frames": 8, "fps": 30, "source": "video"}, "24 frames a second, fewer than"),
    ],
    ids=str,
)
def test_a_video_that_is_too_short_says_so(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        moments({"frame_times": TIMES, "duration": 5.0, "fps": 24.0}, **keys)
    with pytest.raises(Unusable, match="without duration and fps"):
        moments({"frame_times": TIMES}, num_frames=2, fps=1, source="video")


@pytest.mark.parametrize("source", ["frames", "video"])
def test_the_longest_clip_that_fits_is_chosen(source: str) -> None:
    """Of 5.1, 1.6 and 0.6 seconds."""
    several = Sampling(num_frames=[5, 41, 13], fps=8, source=source)
    for duration, chosen in ((9.0, 41), (5.0, 13), (1.7, 13), (1.5, 5)):
        times = tuple(i / 8 for i in range(int(duration * 8)))
        meta = {"frame_times": times, "duration": duration, "fps": 24.0}
        assert sampling.length(meta, several) == chosen
    with pytest.raises(Unusable, match=r"the clip that is asked for takes 0\.50 s"):
        sampling.length({"frame_times": (0.0, 0.1), "duration": 0.2, "fps": 24.0}, several)


def test_the_most_similar_shape_is_chosen() -> None:
    sizes = [(64, 64), (96, 48), (48, 96)]
    for shape, chosen in (((500, 480), 0), ((1920, 1080), 1), ((720, 1280), 2), ((1020, 730), 0)):
        assert sampling.size({"width": shape[0], "height": shape[1]}, sizes) == sizes[chosen]
    assert sampling.size({}, sizes[:1]) == sizes[0]
    with pytest.raises(Unusable, match="without width and height"):
        sampling.size({}, sizes)
