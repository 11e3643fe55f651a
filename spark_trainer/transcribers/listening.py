"""Reading samples, and finding where in them somebody speaks, before a model transcribes them."""

import wave
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from spark_trainer.errors import of_machine
from spark_trainer.media.source import Unreadable
from spark_trainer.transcribers import SAMPLE_RATE, WINDOW_S, Sound

if TYPE_CHECKING:
    import numpy as np

AHEAD_S = 1800.0  # most sound that is read before the model needs it: 115 MB

Key = TypeVar("Key")
Made = TypeVar("Made")


def read(wav: Path) -> "np.ndarray":
    """Read samples (N,) in [-1, 1) at 16 kHz, mixed down to mono.

    Raises:
        Unreadable: the file is no sound.
        OSError: the file is missing, or the machine can't read it.
    """
    import numpy as np

    try:
        with wave.open(str(wav), "rb") as file:
            if file.getparams()[:3] == (1, 2, SAMPLE_RATE):
                data = file.readframes(file.getnframes())
                if len(data) < 2 * file.getnframes():
                    raise EOFError(f"{len(data)} of {2 * file.getnframes()} bytes are there")
                return np.frombuffer(data, "<i2").astype(np.float32) / 32768
        return _resampled(wav)
    except Exception as error:  # a decoder's own classes are many
        if of_machine(error):
            raise
        raise Unreadable(f"{wav.name} can't be read: {error}") from error


def _resampled(wav: Path) -> "np.ndarray":
    from faster_whisper.audio import decode_audio

    samples: np.ndarray = decode_audio(str(wav), sampling_rate=SAMPLE_RATE)
    return samples


def speech(samples: "np.ndarray") -> tuple[tuple[float, float], ...]:
    """Return (start, end) in seconds of each stretch with a voice, by the Silero detector.

    A stretch is at most as long as Whisper's window; a longer one is cut at its last pause of
    0.1 s.
    """
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(min_speech_duration_ms=250, max_speech_duration_s=WINDOW_S)
    found = get_speech_timestamps(samples, options, sampling_rate=SAMPLE_RATE)
    return tuple((part["start"] / SAMPLE_RATE, part["end"] / SAMPLE_RATE) for part in found)


def listen(wav: Path, vad: bool) -> Sound:
    """Read a file and find the speech in it.

    Raises:
        Unreadable: see `read`.
        OSError: see `read`.
    """
    samples = read(wav)
    return Sound(samples, speech(samples) if vad else None)


def ahead(
    function: Callable[[Key], Made],
    keys: Iterable[Key],
    seconds: Callable[[Key], float],
    threads: int,
) -> Iterator[tuple[Key, Made]]:
    """Yield each key with the function's result, in order, computed while the caller works.

    The voice detector and FFmpeg release the GIL, so threads suffice. At most `AHEAD_S` seconds of
    sound are held, or one longer piece.
    """
    waiting: deque[tuple[Key, Future[Made]]] = deque()
    held = 0.0
    with ThreadPoolExecutor(threads) as pool:
        try:
            for key in keys:
                while waiting and held + seconds(key) > AHEAD_S:
                    first, future = waiting.popleft()
                    yield first, future.result()
                    held -= seconds(first)
                waiting.append((key, pool.submit(function, key)))
                held += seconds(key)
                while waiting and waiting[0][1].done():
                    first, future = waiting.popleft()
                    yield first, future.result()
                    held -= seconds(first)
            for first, future in waiting:
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
