"""Names of Whisper models, and which runs learn from their own base's transcripts."""

from typing import Any

import pytest

from spark_trainer.config import Run
from spark_trainer.speech import models


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("openai/whisper-large-v3", "large-v3"),
        ("Systran/faster-whisper-large-v3", "large-v3"),
        ("offline-tiny.en", "tiny.en"),
        ("/models/tiny.en.pt", "tiny.en"),
        ("runs/talks-1a2b3c4d/final/ct2", "talks-1a2b3c4d"),
        ("/data/runs/talks-1a2b3c4d/final", "talks-1a2b3c4d"),
        ("runs/talks-1a2b3c4d/final/openai.pt", "talks-1a2b3c4d"),
    ],
)
def test_one_model_has_one_name(name: str, called: str) -> None:
    assert models.plain(name) == called


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        ({}, True),
        ({"text": {"answer": "{transcript}"}}, True),
        ({"text": {"answer": "{corrected}"}}, False),
        ({"asr": {"references": "said.csv"}}, False),
        ({"model_name": "openai/whisper-base"}, False),
        ({"model_type": "vision_language"}, False),
    ],
    ids=str,
)
def test_a_run_is_warned_of_its_bases_own_transcripts(settings: dict[str, Any], own: bool) -> None:
    run = Run(**{"model_type": "asr", "model_name": "openai/whisper-tiny"} | settings)
    assert models.learns_its_own(run, "tiny") == own
    assert not models.learns_its_own(run, None)
