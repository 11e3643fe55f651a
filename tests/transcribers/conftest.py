"""Three sentences read aloud, and how far a transcript is from them."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from spark_trainer import ffmpeg

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Reading:
    """A recording and what is said in it."""

    wav: Path
    text: str


def readings() -> list[Reading]:
    """The rows of tests/assets/README.md."""
    folder = ROOT / "tests/assets"
    rows = [line.split("|") for line in (folder / "README.md").read_text("utf-8").splitlines()]
    rows = [row for row in rows if len(row) == 4 and ".wav" in row[1]]
    return [Reading(folder / row[1].strip(), row[2].strip()) for row in rows]


def word_error_rate(expected: str, text: str) -> float:
    """Share of wrong words, after Whisper's own normalisation: case, punctuation, titles."""
    import jiwer
    from whisper.normalizers import EnglishTextNormalizer

    normal = EnglishTextNormalizer()
    return float(jiwer.wer(normal(expected), normal(text)))


@pytest.fixture(params=readings(), ids=lambda reading: reading.wav.stem)
def reading(request: pytest.FixtureRequest) -> Reading:
    """One sentence after the other."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def errors() -> Callable[[str, str], float]:
    """The word error rate, as a function."""
    return word_error_rate


@pytest.fixture
def wav(tmp_path: Path) -> Callable[[str], Path]:
    """The sound of a demo clip as the audio step would write it."""

    def run(clip: str) -> Path:
        source, target = ROOT / "config/demo/clips" / clip, tmp_path / "audio.wav"
        sound = ["-vn", "-ac", "1", "-ar", "16000", "-c:a", "pcm_s16le"]
        command = [ffmpeg.binary(), "-v", "error", "-i", str(source), *sound, str(target)]
        subprocess.run(command, check=True)
        return target

    return run
