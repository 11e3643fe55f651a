"""Frames decoded on demand are those that the frames step writes."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spark_trainer.config import Frames
from spark_trainer.data import video
from spark_trainer.data.layout import Layout, Video, frame_name
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
    link = layout.source(one.hash)
    link.parent.mkdir(parents=True)
    source = tmp_path / name
    source.write_bytes((CLIPS / name).read_bytes())
    link.symlink_to(source)
    stat = source.stat()
    os.utime(link, ns=(stat.st_atime_ns, stat.st_mtime_ns), follow_symlinks=False)
    [(_, facts)] = frames.produce([one], Context(layout, Frames(), 1))
    times = facts["times"][:6]
    shown = list(video.frames_at(link, times))
    assert len(shown) == len(times)
    for number, image in enumerate(shown, start=1):
        with Image.open(layout.frames(one) / frame_name(number)) as opened:
            stored = np.asarray(opened.convert("RGB"), dtype=float)
        assert image.size == stored.shape[1::-1]
        assert np.abs(np.asarray(image, dtype=float) - stored).mean() < 6, (name, number)


def test_a_text_file_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("not a video")
    with pytest.raises(ValueError, match="can't be decoded"):
        list(video.frames_at(path, [0.0]))
