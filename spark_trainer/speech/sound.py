"""Reading a stretch of a sound track, of which nothing else is read."""

import contextlib
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from spark_trainer.data.sample import Unusable
from spark_trainer.errors import ABSENT, of_machine
from spark_trainer.speech import SAMPLE_RATE

if TYPE_CHECKING:
    import numpy as np

FULL_SCALE = 32768  # of 16-bit samples
ROUNDING_S = 0.1  # by which a manifest may take a file for longer than it is


def duration(path: Path) -> float:
    """Return a WAV file's length in seconds.

    Raises:
        Unusable: it is missing, or no WAV file of 16-bit samples.
        OSError: the machine can't read it.
    """
    with _opened(path) as file:
        return file.getnframes() / file.getframerate()


def read(path: Path, start: float, end: float) -> "np.ndarray":
    """Read a stretch of a WAV file as samples (N,) in [-1, 1) at 16 kHz, mixed down to mono.

    Args:
        path: the file, of 16-bit samples.
        start: seconds from the file's start.
        end: the same.

    Raises:
        Unusable: the file is missing, is no such file, or ends before.
        OSError: the machine can't read it.
    """
    import numpy as np

    with _opened(path) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        if file.getnframes() < (end - ROUNDING_S) * rate:
            raise Unusable(f"{path}: it ends before {end:.2f} s")
        first = min(round(start * rate), file.getnframes())
        count = min(round(end * rate), file.getnframes()) - first
        file.setpos(first)
        data = file.readframes(count)
    if len(data) < 2 * channels * count or not count:
        raise Unusable(f"{path}: it ends before {end:.2f} s")
    stereo_NC = np.frombuffer(data, "<i2").reshape(-1, channels)
    samples_N = stereo_NC.astype(np.float32).mean(axis=1) / FULL_SCALE
    return samples_N if rate == SAMPLE_RATE else _resampled(samples_N, rate)


def _resampled(samples_N: "np.ndarray", rate: int) -> "np.ndarray":
    import numpy as np
    from av import AudioFrame, AudioResampler

    frame = AudioFrame.from_ndarray(samples_N[None], format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    made = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([one.to_ndarray()[0] for one in made])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[wave.Wave_read]:
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(wave.open(str(path), "rb"))
        except Exception as error:
            if of_machine(error) and not isinstance(error, ABSENT):
                raise
            why = getattr(error, "strerror", None) or f"no WAV file: {error}"
            raise Unusable(f"{path}: {why}") from None
        if file.getsampwidth() != 2:
            raise Unusable(f"{path}: expected 16-bit samples, it has {8 * file.getsampwidth()}")
        if not file.getframerate():
            raise Unusable(f"{path}: no WAV file: it has 0 samples a second")
        yield file
