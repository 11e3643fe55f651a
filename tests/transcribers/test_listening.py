"""Samples from WAV files, voices in them, and reading ahead within bounds."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spark_trainer.media.source import Unreadable
from spark_trainer.transcribers import listening


def test_a_voice_is_found_where_somebody_reads(reading: "Reading") -> None:  # noqa: F821
    samples = listening.read(reading.wav)
    seconds = len(samples) / 16000
    assert 0.8 * seconds <= sum(b - a for a, b in listening.speech(samples)) <= seconds


def test_stretches_are_no_longer_than_whisper_hears(every_reading: list) -> None:
    samples = np.concatenate([listening.read(reading.wav) for reading in every_reading] * 3)
    found = listening.speech(samples)
    assert len(found) > 1
    assert max(end - start for start, end in found) <= 30
    assert sum(end - start for start, end in found) > 0.9 * len(samples) / 16000


def test_other_rates_and_channels_are_resampled(
    every_reading: list, wav: Callable[..., Path], tmp_path: Path
) -> None:
    path = every_reading[0].wav
    stereo = tmp_path / "stereo.wav"
    wav("-i", str(path), "-ac", "2", "-ar", "44100", str(stereo))
    ours, other = listening.read(path), listening.read(stereo)
    assert len(other) == pytest.approx(len(ours), abs=200)
    length = min(len(ours), len(other))
    assert np.corrcoef(ours[:length], other[:length])[0, 1] > 0.99


@pytest.mark.parametrize("content", [b"", b"text", b"RIFF\0\0\0\0WAVE"])
def test_what_is_no_sound_is_unreadable(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "audio.wav"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=r"^audio.wav can't be read: "):
        listening.read(path)


def test_a_cut_file_is_unreadable(every_reading: list, tmp_path: Path) -> None:
    path = tmp_path / "audio.wav"
    path.write_bytes(every_reading[0].wav.read_bytes()[:20_000])
    with pytest.raises(Unreadable, match="bytes are there"):
        listening.read(path)


def test_what_is_ahead_comes_in_order_and_within_bounds() -> None:
    held, most, lock = 0, 0, threading.Lock()

    def work(key: int) -> int:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return 2 * key

    found = []
    for key, value in listening.ahead(work, range(50), lambda _: listening.AHEAD_S / 4, 2):
        with lock:
            held -= 1
        found.append((key, value))
    assert found == [(key, 2 * key) for key in range(50)]
    assert most <= 5
