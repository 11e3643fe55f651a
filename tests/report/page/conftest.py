"""Frames of the demo's clips, and pages over made-up lines about them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data import manifest
from spark_trainer.data.layout import Layout
from spark_trainer.report import page as pages
from spark_trainer.runs.folder import RunFolder
from tests import ffmpeg

from .read import Page

NAMES = ("dog", "title", "cup")
Build = Callable[..., Page]


@pytest.fixture(scope="package")
def frames(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames a second of some videos, in folders whose names need quoting in a link."""
    folder = tmp_path_factory.mktemp("out")
    for name in NAMES:
        inside = folder / f"a #1%20 {name}" / "frames"
        inside.mkdir(parents=True)
        shown = ffmpeg.read(clips / f"{name}.mp4").filter("fps", 2)
        ffmpeg.write(shown.output(f"{str(inside).replace('%', '%%')}/frame_%06d.jpg"))
    return folder


def entry(folder: Path, name: str, **meta: Any) -> manifest.Entry:
    """A line about a video whose frames are in `folder`."""
    inside = f"a #1%20 {name}/frames"
    count = len(list((folder / inside).iterdir()))
    known = {
        "source_path": f"{name}.mp4",
        "duration": count / 2,
        "frame_times": [i / 2 for i in range(count)],
        "width": 640,
        "height": 360,
        "caption": f"a {name}",
        "captioner": "blip",
        "captioner_model": "some/model",
        "transcript": None,
        "no_transcript": "no audio",
    }
    number = NAMES.index(name)
    return {"id": f"{number:064x}", "frames_dir": inside, "audio": None, "meta": known | meta}


@pytest.fixture
def build(frames: Path) -> Build:
    """Write a manifest over the frames, and the page."""

    def built(
        entries: Sequence[manifest.Entry],
        limit: int = 500,
        page: Path | None = None,
        runs: Sequence[RunFolder] = (),
    ) -> Page:
        layout = Layout(frames)
        manifest.write(layout.manifest, entries)
        pages.write(layout.manifest, page or layout.report, runs, limit)
        return Page(page or layout.report)

    return built
