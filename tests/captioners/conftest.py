"""Still pictures of the demo's clips."""

import subprocess
from pathlib import Path

import pytest

from spark_trainer import ffmpeg

CLIPS = Path(__file__).parents[2] / "config/demo/clips"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The first frame of each clip, by the clip's name."""
    folder, found = tmp_path_factory.mktemp("pictures"), {}
    for clip in ("dog", "title", "cup", "bunny"):
        found[clip] = folder / f"{clip}.jpg"
        command = [ffmpeg.binary(), "-v", "error", "-i", str(CLIPS / f"{clip}.mp4")]
        subprocess.run([*command, "-frames:v", "1", str(found[clip])], check=True)
    return found
