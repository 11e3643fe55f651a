"""A line of the manifest holds what the steps' sections declare, or says which step is to blame."""

from typing import Any

import pytest

from spark_trainer.data.layout import Video
from spark_trainer.errors import UserError
from spark_trainer.steps import manifest
from spark_trainer.steps.audio import AudioRecord, AudioStep
from spark_trainer.steps.frames import FramesRecord
from spark_trainer.steps.record import Facts

VIDEO = Video("a" * 64, "aa/" + "a" * 64)
OF_AUDIO = AudioStep.manifest_fields


def line(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> manifest.manifest.Entry:
    """Return the line of a video of which the step `audio` says these facts beside its own."""

    def fields(step: AudioStep, video: Video, record: AudioRecord) -> Facts:
        said = OF_AUDIO(step, video, record) | facts
        return {key: value for key, value in said.items() if value != "left out"}

    monkeypatch.setattr(AudioStep, "manifest_fields", fields)
    records = {"frames": FramesRecord(times=(0, 1), width=64), "audio": AudioRecord()}
    return manifest.line(VIDEO, records)


def test_the_first_step_that_knows_a_shared_key_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    meta = line(monkeypatch, duration=2)["meta"]
    assert repr((meta["duration"], meta["frame_times"], meta["width"])) == "(2.0, [0.0, 1.0], 64)"
    assert meta["caption"] is None


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"loudness": 1.0}, "'loudness' is not in MANIFEST of its section"),
        ({"no_audio": "left out"}, "no 'no_audio', which MANIFEST of its section declares"),
        ({"duration": "word"}, 'duration: expected a number or null (got "word")'),
        ({"no_audio": 3}, "no_audio: expected a text or null (got 3)"),
        ({"duration": [2.0]}, "duration: expected a number or null (got [2.0])"),
    ],
    ids=["undeclared", "missing", "text for number", "number for text", "list for number"],
)
def test_a_step_that_says_something_else_is_named(
    facts: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as raised:
        line(monkeypatch, **facts)
    assert str(raised.value) == f"audio: manifest_fields: {message}"
