"""Speech recognition behind one interface; one module per backend, heavy imports inside."""

import importlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from spark_trainer.config import ConfigError, Transcript
from spark_trainer.data import models
from spark_trainer.errors import SparkTrainerError
from spark_trainer.system.memory import OutOfMemory, is_out_of_memory
from spark_trainer.transcribers import weights

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 16000  # of the input of Whisper and of the voice detector
WINDOW_S = 30.0  # length of Whisper's input

PACKAGES = {
    "faster-whisper": ("faster-whisper", "ctranslate2", "onnxruntime"),
    "openai-whisper": ("openai-whisper", "torch", "onnxruntime"),
}

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Word:
    """One word; times as in `Segment`."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Segment:
    """A stretch of speech; times in seconds from the start of the audio.

    The last four are Whisper's own measures of the window that the segment was decoded in:
    probability of its no-speech token, mean log-probability of the tokens, zlib compression ratio
    of the whole text, and where the window starts, in seconds.
    """

    start: float
    end: float
    text: str
    no_speech: float = 0.0
    log_prob: float = 0.0
    compression: float = 0.0
    window: float = 0.0
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Sound:
    """Samples (N,) at 16 kHz in [-1, 1), and (start, end) seconds of speech; None: all of it."""

    samples: "np.ndarray"
    speech: tuple[tuple[float, float], ...] | None = None

    @property
    def duration(self) -> float:
        """Return the length in seconds."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def windows(self) -> int:
        """Count the windows that the model has to transcribe."""
        return max(1, len(self.speech or ()))

    def spoken(self) -> "np.ndarray":
        """Return the first 30 s of speech, without pauses, for detecting the language."""
        import numpy as np

        ends = self.speech or ((0.0, self.duration),)
        parts = [self.samples[int(a * SAMPLE_RATE) : int(b * SAMPLE_RATE)] for a, b in ends]
        return np.concatenate(parts)[: int(WINDOW_S * SAMPLE_RATE)]


@dataclass(frozen=True)
class Heard:
    """A transcription: language code, its probability where it was detected, segments."""

    language: str
    probability: float | None
    segments: list[Segment] = field(default_factory=list)


class Transcriber(Protocol):
    """A loaded model.

    `device` is `cuda` or `cpu`, `revision` the weights' commit or digest where the package knows
    it, `batch_size` the number of windows that it takes at once.
    """

    device: str
    revision: str | None
    batch_size: int

    def transcribe(self, sounds: Sequence[Sound]) -> list[Heard]:
        """Return the text of each sound; a result does not depend on the others.

        Raises:
            OutOfMemory: the memory is too small for a single window.
        """
        ...


def load(settings: Transcript, device: str = "cpu", threads: int = 1) -> Transcriber:
    """Load the configured backend and model.

    Args:
        settings: the section; `device` decides instead of `settings.device`.
        device: `cuda`, the first visible GPU, or `cpu`.
        threads: cores that the model may use on a CPU.

    Raises:
        ConfigError: the weights or the device can't be used.
        MachineError: the disk, the network or the hub fails, or the memory is too small.
    """
    module = importlib.import_module(f"{__name__}.{settings.model_backend.replace('-', '_')}")
    model = weights.offline(settings.whisper_model)
    try:
        loaded: Transcriber = module.load(settings, model, device, threads)
    except (MemoryError, RuntimeError, ValueError, OSError, KeyError) as error:
        if isinstance(error, SparkTrainerError):
            raise
        if is_out_of_memory(error):
            raise too_small(settings) from error
        backend, model_name = settings.model_backend, settings.whisper_model
        where = f"transcript.whisper_model: {backend} can't load {model_name}"
        raise models.unusable(f"{where}: {error}", error) from error
    return loaded


def identity(settings: Transcript, cache: Path) -> str:
    """Return the digest of weights on this machine; any other model's name as it is.

    Raises:
        ConfigError: names or small files show that the backend can't use the weights.
    """
    if settings.enabled:
        weights.check(settings)
    return weights.identity(settings.whisper_model, cache)


def usable(device: str, has_gpu: bool) -> str:
    """Return the device if the backend can use it.

    Raises:
        ConfigError: the backend can't.
    """
    if device == "cuda" and not has_gpu:
        raise ConfigError("transcript.device: a GPU is leased, but the backend can't use it")
    return device


def batched(
    function: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    size: int,
    settings: Transcript,
) -> list[Result]:
    """Apply a function to batches, which are halved whenever memory runs out.

    Raises:
        OutOfMemory: one item alone does not fit.
    """
    results: list[Result] = []
    while len(results) < len(items):
        try:
            results += function(items[len(results) : len(results) + size])
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise too_small(settings) from error
            size = max(1, size // 2)
    return results


def too_small(settings: Transcript) -> OutOfMemory:
    """Return the error for a single window that does not fit into memory."""
    return OutOfMemory(
        f"transcript: out of memory with a batch of 1; use a smaller transcript.whisper_model than "
        f"{settings.whisper_model}, lower transcript.beam_size (now {settings.beams}), or a "
        f"smaller transcript.compute_type (now {settings.compute_type})"
    )


def compression(text: str) -> float:
    """Return the compression ratio of a text: its UTF-8 bytes over the bytes that zlib makes."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
