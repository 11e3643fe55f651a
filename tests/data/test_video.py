"""Frames decoded on demand are those that the frames step writes; written videos hold theirs."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from spark_trainer.config import Frames
from spark_trainer.data import sources, video
from spark_trainer.data.layout import Layout, Video, frame_name
from spark_trainer.data.search import Found
from spark_trainer.steps import Context, frames

CLIPS = Path(__file__).parent.parent.parent / "config/demo/clips"


@pytest.mark.parametrize(
    "name",
    [
        path.name
        for path in sorted(CLIPS.iterdir())
        if path.stem != "broken" and path.suffix != ".md"
    ],
)
def test_same_frames_as_on_disk(name: str, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    one = Video("0" * 64, "clip")
    source = tmp_path / name
    source.write_bytes((CLIPS / name).read_bytes())
    stat = source.stat()
    file = Found(name, name, str(source), stat.st_size, stat.st_mtime_ns)
    sources.write(layout, {one.hash: file})
    [(_, facts)] = frames.produce([one], Context(layout, Frames(), 1))
    times = facts["times"][:6]
    shown = list(video.frames_at(source, times))
    assert len(shown) == len(times)
    for number, image in enumerate(shown, start=1):
        with Image.open(layout.frames(one) / frame_name(number)) as opened:
            stored = np.asarray(opened.convert("RGB"), dtype=float)
        assert image.size == stored.shape[1::-1]
        assert np.abs(np.asarray(image, dtype=float) - stored).mean() < 6, (name, number)


@pytest.mark.parametrize("rate", [16.0, 7.5, 40.0])
@pytest.mark.parametrize("name", ["dog.mp4", "hello.mpeg"])
def test_the_grid_shows_what_is_asked_for_by_time(name: str, rate: float) -> None:
    """Of a steady rate and of a phone's: as many frames as the video lasts, each at its time."""
    path, count = CLIPS / name, round(1.2 * rate)
    grid = list(video.frames_on_grid(path, rate, count, []))
    asked = video.frames_at(path, [number / rate for number in range(count)])
    assert [image.tobytes() for image in grid] == [image.tobytes() for image in asked]


def test_the_grid_ends_with_the_video() -> None:
    """dog.mp4 lasts 1.57 s, the last frame included."""
    complaints: list[str] = []
    assert len(list(video.frames_on_grid(CLIPS / "dog.mp4", 16.0, None, complaints))) == 25
    assert complaints == []


@pytest.mark.parametrize("quality", ["exact", "fine"])
def test_what_is_written_is_read_back(quality: video.Quality, tmp_path: Path) -> None:
    """At every k / rate the frame k; `exact` to the bit, `fine` but for what the eye misses."""
    images = [
        image.resize((426, 240)) for image in video.frames_on_grid(CLIPS / "dog.mp4", 16.0, 8, [])
    ]
    for rate in (16.0, 29.97, 23.976):
        path = tmp_path / f"{rate}.mp4"
        with video.Writer(path, rate, images[0].size, quality) as writer:
            for image in images:
                writer.add(image)
        back = list(video.frames_at(path, [number / rate for number in range(8)]))
        for image, read in zip(images, back, strict=True):
            difference = np.abs(np.asarray(image, float) - np.asarray(read, float))
            assert difference.mean() < (1e-9 if quality == "exact" else 2)


def test_a_text_file_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("not a video")
    with pytest.raises(ValueError, match="can't be decoded"):
        list(video.frames_at(path, [0.0]))


def test_a_written_video_has_its_frames_and_rate(tmp_path: Path) -> None:
    images = [Image.new("RGB", (32, 16), (level, 0, 0)) for level in (10, 90, 170, 250)]
    video.write(tmp_path / "a.mp4", images, 7.5)
    times = [i / 7.5 for i in range(4)]
    shown = list(video.frames_at(tmp_path / "a.mp4", times))
    assert [
        abs(int(np.asarray(i)[8, 8, 0]) - v) < 20
        for i, v in zip(shown, (10, 90, 170, 250), strict=True)
    ]
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 4
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(7.5)
