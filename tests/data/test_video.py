"""Written videos hold the frames that were written."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from spark_trainer.data import video
from tests.media import images_at, images_on_grid

CLIPS = Path(__file__).parent.parent.parent / "config/demo/clips"


@pytest.mark.parametrize("quality", ["exact", "fine"])
def test_what_is_written_is_read_back(quality: video.Quality, tmp_path: Path) -> None:
    """At every k / rate the frame k; `exact` to the bit, `fine` but for what the eye misses."""
    images = [image.resize((426, 240)) for image in images_on_grid(CLIPS / "dog.mp4", 16.0, 8)]
    for rate in (16.0, 29.97, 23.976):
        path = tmp_path / f"{rate}.mp4"
        with video.Writer(path, rate, images[0].size, quality) as writer:
            for image in images:
                writer.add(image)
        back = list(images_at(path, [number / rate for number in range(8)]))
        for image, read in zip(images, back, strict=True):
            difference = np.abs(np.asarray(image, float) - np.asarray(read, float))
            assert difference.mean() < (1e-9 if quality == "exact" else 2)


def test_a_written_video_has_its_frames_and_rate(tmp_path: Path) -> None:
    images = [Image.new("RGB", (32, 16), (level, 0, 0)) for level in (10, 90, 170, 250)]
    video.write(tmp_path / "a.mp4", images, 7.5)
    times = [i / 7.5 for i in range(4)]
    shown = list(images_at(tmp_path / "a.mp4", times))
    assert [
        abs(int(np.asarray(i)[8, 8, 0]) - v) < 20
        for i, v in zip(shown, (10, 90, 170, 250), strict=True)
    ]
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 4
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(7.5)
