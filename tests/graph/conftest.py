"""Configurations over two clips, without a build."""

from collections.abc import Callable
from typing import Any

import pytest

from spark_trainer.config import load
from spark_trainer.data import index
from spark_trainer.graph.videos import VideoGraph

Ask = Callable[..., VideoGraph]


@pytest.fixture
def ask(two_clips: dict[str, str]) -> Ask:
    """Make the graph of two clips under some settings."""

    def ask(local: bool = True, **keys: Any) -> VideoGraph:
        config = load({**two_clips, **keys})
        return VideoGraph(config, index.scan(config), lambda: local)

    return ask
