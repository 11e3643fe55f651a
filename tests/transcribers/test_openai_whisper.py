"""Real weights on real speech through OpenAI's package, and weights made over from CTranslate2."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from spark_trainer import transcribers
from spark_trainer.config import Transcript
from spark_trainer.transcribers import Transcriber, openai_whisper


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    """The offline model, loaded once."""
    settings = Transcript(
        backend="openai-whisper", whisper_model="offline-tiny.en", device="cpu", language="en"
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


def model_file(folder: Path, names: list[str]) -> Path:
    """A CTranslate2 file with one number under each name."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    tensors = [text(name) + struct.pack("<BIBIf", 1, 1, 0, 4, 1.0) for name in names]
    head = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(names))
    (folder / "model.bin").write_bytes(head + b"".join(tensors) + struct.pack("<I", 0))
    return folder


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["decoder/embeddings/weight"], "no Whisper model, 'encoder/position_encodings/encodings'"),
        (["encoder/conv1/weight", "encoder/conv1/weight_scale"], "integer weights"),
    ],
)
def test_a_folder_that_is_no_float_whisper_is_refused(
    names: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        openai_whisper.from_ctranslate2(model_file(tmp_path, names))
