"""Real weights through CTranslate2: words, times, batches."""

import json
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spark_trainer import transcribers
from spark_trainer.config import Transcript
from spark_trainer.speech.formats import names
from spark_trainer.transcribers import listening

from . import scripted

NAME = "offline-tiny.en"
Make = Callable[..., "Ear"]  # noqa: F821  # tests/transcribers/conftest.py


def test_a_result_does_not_depend_on_the_batch(ear: Make, every_reading: list) -> None:
    sounds = [listening.listen(reading.wav, vad=True) for reading in every_reading]
    many, one = (ear("faster-whisper", batch_size=size).model for size in (8, 1))
    together = many.transcribe(sounds)
    assert [heard.segments for heard in together] == [
        [*one.transcribe([sound])[0].segments] for sound in sounds
    ]


def test_a_model_that_hardly_goes_on_is_left_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends its first segment at 0.02 s, and begins another: in 3 s it would 125 times."""
    said, later = 257, scripted.BEGIN + 1
    scripted.write(tmp_path, [scripted.BEGIN, said, later, later])
    settings = {"whisper_model": str(tmp_path / "ct2"), "backend": "faster-whisper"}
    model = transcribers.load(Transcript(**settings, language="en", device="cpu", beam_size=1))
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    (heard,) = model.transcribe([listening.Sound(noise, ((0.0, 3.0),))])
    assert 1 < len(heard.segments) <= 60
    assert "transcript: the model is stuck; nothing more is heard in 1.2 to 3.0 s" in caplog.text


def test_only_the_given_stretches_are_heard(ear: Make, reading: "Reading") -> None:  # noqa: F821
    model = ear("faster-whisper").model
    samples = listening.read(reading.wav)
    whole, part = model.transcribe(
        [
            listening.Sound(samples, ((0.0, len(samples) / 16000),)),
            listening.Sound(samples, ((0.0, 2.0),)),
        ]
    )
    texts = [" ".join(segment.text for segment in heard.segments) for heard in (whole, part)]
    assert 0 < len(texts[1]) < 0.6 * len(texts[0])


def test_sound_is_filled_up_as_the_model_learnt_it(every_reading: list, tmp_path: Path) -> None:
    """A run's model hears silence after the sound, as transformers has it; others hear zeros."""
    from transformers import WhisperFeatureExtractor

    for file in names.wheel(NAME).iterdir():
        (tmp_path / file.name).symlink_to(file)
    told = {"feature_size": 80, "pads_sound": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    samples = listening.read(every_reading[0].wav)
    expected = WhisperFeatureExtractor()(samples, sampling_rate=16000).input_features
    base, trained = (
        transcribers.load(Transcript(whisper_model=name, backend="faster-whisper"))
        for name in (NAME, str(tmp_path))
    )
    np.testing.assert_allclose(trained._features([samples]), expected, atol=1e-4)
    [plain] = base._features([samples])
    frames = len(samples) // 160
    np.testing.assert_allclose(plain[:, : frames - 2], expected[0][:, : frames - 2], atol=1e-4)
    assert not plain[:, frames + 1 :].any()


@pytest.mark.long
def test_nothing_is_lost_in_two_minutes_of_speech(
    ear: Make,
    every_reading: list,
    errors: Callable[..., float],
    tmp_path: Path,
) -> None:
    """In batches, and one window after the other as the package itself goes on."""
    pieces = [listening.read(reading.wav) for reading in every_reading] * 7
    samples = np.concatenate([np.append(piece, np.zeros(8000)) for piece in pieces])
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    said = " ".join([reading.text for reading in every_reading] * 7)
    for values in ({}, {"temperatures": (0.0, 0.2)}):
        heard, text, dropped = ear("faster-whisper", **values).hear(path)
        assert errors([said], [text]) <= 0.1, (values, dropped)
        starts = [segment.start for segment in heard.segments]
        assert starts == sorted(starts)
