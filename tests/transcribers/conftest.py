"""Sentences read aloud, sound without speech, real weights, and how far a transcript is off."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from spark_trainer import transcribers
from spark_trainer.config import Transcript
from spark_trainer.transcribers import Heard, Transcriber, filters, listening
from tests import ffmpeg, whisper_weights

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


def word_error_rate(expected: Sequence[str], texts: Sequence[str]) -> float:
    """Share of wrong words over all texts, after Whisper's own normalisation."""
    import jiwer
    from whisper.normalizers import EnglishTextNormalizer

    normal = EnglishTextNormalizer()
    return float(jiwer.wer([normal(text) for text in expected], [normal(text) for text in texts]))


@dataclass(frozen=True)
class Ear:
    """A loaded model and its settings."""

    settings: Transcript
    model: Transcriber

    def hear(self, wav: Path) -> tuple[Heard, str, dict[str, int]]:
        """What the model says, the text that passes the filters, and what they drop."""
        sound = listening.listen(wav, self.settings.vad)
        (heard,) = self.model.transcribe([sound])
        kept, dropped = filters.keep(heard.segments, sound.duration, self.settings)
        return heard, " ".join(segment.text for segment in kept), dropped


@pytest.fixture(scope="session")
def every_reading() -> list[Reading]:
    """All sentences."""
    return readings()


@pytest.fixture(params=readings(), ids=lambda reading: reading.wav.stem)
def reading(request: pytest.FixtureRequest) -> Reading:
    """One sentence after the other."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def errors() -> Callable[[Sequence[str], Sequence[str]], float]:
    """The word error rate, as a function."""
    return word_error_rate


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The multilingual base model."""
    return whisper_weights.base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def ear(base: Path) -> Callable[..., Ear]:
    """Load a model on the CPU, once for the same settings; `base` stands for its folder."""
    known: dict[str, Ear] = {}

    def run(backend: str, model: str = "offline-tiny.en", **values: object) -> Ear:
        name = str(base) if model == "base" else model
        settings = Transcript(backend=backend, whisper_model=name, device="cpu", **values)
        key = settings.model_dump_json()
        if key not in known:
            known[key] = Ear(settings, transcribers.load(settings, threads=2))
        return known[key]

    return run


@pytest.fixture
def wav(tmp_path: Path) -> Callable[..., Path]:
    """FFmpeg's arguments, or a demo clip's name -> the sound as the audio step writes it."""

    def run(*arguments: str) -> Path:
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.wav"
        if len(arguments) == 1:
            folders = (ROOT / "config/demo/clips", ROOT / "tests/assets")
            (path,) = [f / arguments[0] for f in folders if (f / arguments[0]).is_file()]
            arguments = ("-i", str(path))
        sound = ["-vn", "-ac", "1", "-ar", "16000", "-c:a", "pcm_s16le"]
        command = [ffmpeg.binary(), "-v", "error", *arguments, *sound, str(target)]
        subprocess.run(command, check=True)
        return target

    return run
