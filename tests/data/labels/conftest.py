"""Videos without content, and labels beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import load
from spark_trainer.data import index
from spark_trainer.data.index import Index
from spark_trainer.data.labels import kept
from spark_trainer.data.layout import Video

NAMES = ("dog.mp4", "talks/one.mp4", "talks/two.mp4", "walks/one.mp4")


class Folder:
    """Videos in a folder, and what is said of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in NAMES:
            self.write(f"videos/{name}", name)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def index(self, **keys: Any) -> Index:
        """Look for everything, as a build does."""
        labels = {
            kind: place
            if place in ("beside",) or place.startswith("hub:")
            else str(self.root / place)
            for kind, place in keys.items()
            if kind in ("captions", "transcripts", "meta", "questions")
        }
        others = {key: value for key, value in keys.items() if key not in labels}
        return index.scan(
            load(
                {
                    "video_dir": str(self.root / "videos"),
                    "output_dir": str(self.root / "out"),
                    "captioner_backend": ["sidecar", "blip"],
                    "transcript": {"backend": "sidecar"},
                    "labels": labels | others,
                }
            )
        )

    def said(self, found: Index, kind: str) -> dict[str, Any]:
        """Name of a video -> what a job reads of it."""
        said = {}
        for video, names in found.sources.items():
            told = Video(video, video, labels=found.labels.of(video, (kind,)))
            if label := kept.find(found.layout, told, kind):
                said[names[0]] = label.content
        return said


Remarks = Callable[[Index, str], list[str]]


def remarks(found: Index, kind: str) -> list[str]:
    """What is said of labels of a kind, without the videos that have none."""
    lines = [one for one in found.search.remarks if one.startswith(f"labels.{kind}")]
    return [line.partition(": ")[2] for line in lines if "videos without" not in line]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
