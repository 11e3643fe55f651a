"""Models that hardly go on, heard by the packages' own loops: they end, and it is told."""

from pathlib import Path

import numpy as np
import pytest

from spark_trainer import transcribers
from spark_trainer.config import Transcript
from spark_trainer.transcribers import Sound
from spark_trainer.transcribers.rounds import MOST_ROUNDS, to_the_end

from . import scripted

BEGIN, SAID = scripted.BEGIN, 257
LATER = BEGIN + 1


@pytest.mark.parametrize("backend", ["faster-whisper", "openai-whisper"])
def test_a_model_that_is_stuck_hears_the_rest_once(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends its first segment at 0.02 s and begins another: 2 × 75 rounds in these 3 s."""
    scripted.write(tmp_path, [BEGIN, SAID, LATER, LATER])
    place = tmp_path / "ct2" if backend == "faster-whisper" else tmp_path
    settings = {"whisper_model": str(place), "backend": backend, "temperatures": [0.0, 0.2]}
    model = transcribers.load(Transcript(**settings, language="en", device="cpu", beam_size=1))
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    (heard,) = model.transcribe([Sound(noise, ((0.0, 1.5), (1.5, 3.0)))])
    starts = [one.start for one in heard.segments]
    assert 2 * MOST_ROUNDS < len(starts) <= 4 * MOST_ROUNDS + 2
    assert starts[-1] == pytest.approx(1.5)
    assert caplog.text.count("transcript: the model is stuck in 3.0 s of sound") == 1


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([BEGIN, SAID, LATER], [BEGIN, SAID, LATER]),
        ([BEGIN, SAID, LATER, LATER], [BEGIN, SAID, LATER]),
        ([BEGIN, SAID], [BEGIN, SAID, BEGIN + 1500]),
        ([BEGIN, SAID, LATER, LATER, SAID], [BEGIN, SAID, LATER, LATER, SAID, BEGIN + 1500]),
        ([BEGIN, LATER], []),
        ([BEGIN], []),
        ([], []),
    ],
)
def test_one_time_alone_is_last(tokens: list[int], expected: list[int]) -> None:
    assert to_the_end(tokens, BEGIN) == expected
