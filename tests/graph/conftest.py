"""Configurations over two clips, without a build."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import load
from spark_trainer.data import index
from spark_trainer.graph.videos import VideoGraph

CLIPS = Path(__file__).resolve().parents[2] / "config/demo/clips"
Ask = Callable[..., VideoGraph]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Make the graph of two clips under some settings."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("dog.mp4", "title.mp4"):
        shutil.copy(CLIPS / name, videos / name)

    def ask(local: bool = True, **keys: Any) -> VideoGraph:
        config = load({"video_dir": str(videos), "output_dir": str(tmp_path / "out"), **keys})
        return VideoGraph(config, index.scan(config), local)

    return ask
