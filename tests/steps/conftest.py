"""Videos made with FFmpeg from the demo's clips, and steps run over them as jobs run them."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from spark_trainer import config, steps
from spark_trainer.data import index
from spark_trainer.data.files import read_json
from spark_trainer.data.layout import Shard, Video
from spark_trainer.steps import audio, frames, manifest, runner
from spark_trainer.steps.base import Context
from spark_trainer.steps.record import Facts
from tests import ffmpeg

CLIPS = Path(__file__).parents[2] / "config/demo/clips"


@dataclass(frozen=True)
class Built:
    """What the steps left; a video is asked for by its source's name."""

    index: index.Index

    def video(self, name: str) -> Video:
        """The video one of whose sources has this name."""
        return next(v for h, v in self.index.videos.items() if name in self.index.sources[h])

    def record(self, name: str, step: str) -> Facts:
        """What a step recorded of a video."""
        return dict(read_json(steps.load(step).path(self.index.layout, self.video(name))))

    def frames(self, name: str) -> list[Path]:
        """The frame files of a video, in order of time."""
        return sorted(frames.folder(self.index.layout, self.video(name)).glob("*"))

    def audio(self, name: str) -> Path:
        """Where the audio of a video lies."""
        return audio.wav(self.index.layout, self.video(name))


def run_steps(folder: Path, output: Path, names: tuple[str, ...], settings: dict) -> Built:
    """Run steps over a folder of videos, two cores each."""
    chosen = config.load({"video_dir": str(folder), "output_dir": str(output)} | settings)
    found = index.scan(chosen)
    videos = Shard("", tuple(found.videos.values()))
    for name in names:
        context = Context(found.layout, steps.section(chosen, name), workers=2)
        told = found.told(videos, manifest.corrected(name))
        runner.run(name, steps.fingerprint(chosen, name), told, context)
    return Built(found)


@pytest.fixture(scope="session")
def clips() -> Path:
    """The demo's real clips."""
    return CLIPS


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Frames and audio of the demo's clips."""
    return run_steps(CLIPS, tmp_path_factory.mktemp("demo"), ("frames", "audio"), {})


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """An empty folder for a test's own videos."""
    folder = tmp_path / "videos"
    folder.mkdir()
    return folder


@pytest.fixture
def build(tmp_path: Path, videos: Path) -> Callable[..., Built]:
    """Run steps over the test's own videos; the output folder's name is a hostile one too."""

    def run(*names: str, **settings: object) -> Built:
        return run_steps(videos, tmp_path / "out 100%d", names, settings)

    return run


@pytest.fixture
def encode(videos: Path) -> Callable[..., Path]:
    """Make a video with FFmpeg; words that name a demo clip stand for its path."""

    def run(name: str, *arguments: str) -> Path:
        paths = [str(CLIPS / word) if (CLIPS / word).is_file() else word for word in arguments]
        target = videos / name
        command = [ffmpeg.binary(), "-v", "error", "-y", *paths, f"file:{target}"]
        subprocess.run(command, check=True)
        return target

    return run
