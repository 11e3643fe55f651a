"""Real weights on real speech through CTranslate2."""

from collections.abc import Callable

import pytest

from spark_trainer import transcribers
from spark_trainer.config import Transcript
from spark_trainer.transcribers import Transcriber


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    """The offline model, loaded once."""
    settings = Transcript(
        backend="faster-whisper", whisper_model="offline-tiny.en", device="cpu", language="en"
    )
    return transcribers.load(settings, threads=2)


def test_at_most_a_tenth_of_the_words_is_wrong(
    transcriber: Transcriber,
    reading: "Reading",  # noqa: F821  # tests/transcribers/conftest.py
    errors: Callable[[str, str], float],
) -> None:
    speech = transcribers.speech(reading.wav)
    language, segments = transcriber.transcribe(reading.wav, speech)
    assert language == "en"
    assert errors(reading.text, " ".join(segment.text for segment in segments)) <= 0.1
    assert all(0 <= s.start < s.end <= speech[-1][1] + 1 for s in segments)


def test_only_the_given_stretches_are_heard(
    transcriber: Transcriber,
    reading: "Reading",  # noqa: F821
) -> None:
    _, whole = transcriber.transcribe(reading.wav, None)
    _, part = transcriber.transcribe(reading.wav, [(0.0, 2.0)])
    assert 0 < len(" ".join(s.text for s in part)) < 0.6 * len(" ".join(s.text for s in whole))
