"""What a step says of itself: its place among the others, and when a video gets nothing from it."""

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest

from spark_trainer import config, steps
from spark_trainer.data.layout import Video
from spark_trainer.errors import UserError
from spark_trainer.steps.audio import AudioRecord
from spark_trainer.steps.base import Step
from spark_trainer.steps.caption import CaptionRecord
from spark_trainer.steps.frames import FramesRecord
from spark_trainer.steps.record import Record, Status

OTHERS = AudioRecord(status=Status.NONE, reason="no decoder", others=(AudioRecord(track=1),))
SAID, UNSAID = CaptionRecord(caption="a dog"), CaptionRecord.nothing("the model said nothing")


@pytest.mark.parametrize(
    ("step", "upstream", "why"),
    [
        ("frames", [], None),
        ("caption/blip", [FramesRecord(times=[0.0])], None),
        ("caption/blip", [FramesRecord.rejected("no video stream")], "no video stream"),
        ("transcript", [AudioRecord.nothing("no audio stream")], "no audio stream"),
        ("transcript", [OTHERS], None),
        ("select", [UNSAID, SAID], None),
        ("select", [UNSAID, CaptionRecord.nothing("too dark")], "the model said nothing"),
    ],
)
def test_a_video_gets_nothing_where_what_is_read_is_nothing(
    step: str, upstream: Sequence[Record], why: str | None
) -> None:
    assert steps.load(step).skips(upstream, Video("ab", "ab")) == why


def test_each_captioner_is_a_step_and_the_selection_reads_them() -> None:
    chosen = config.load({"caption": {"captioner_backend": ["blip", "qwen2-vl"]}})
    captions = ("caption/blip", "caption/qwen2-vl")
    assert steps.names(chosen) == ("frames", "audio", "transcript", *captions, "select", "pose")
    assert steps.upstream(chosen, "select") == captions
    assert steps.load("select").reads(steps.section(chosen, "select")) == captions
    assert steps.reported(chosen) == ("frames", "audio", "transcript", "select")


def test_a_switch_takes_along_what_has_none_of_its_own() -> None:
    chosen = config.load({"caption": {"enabled": False}})
    assert steps.enabled(chosen) == ("frames", "audio", "transcript")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (None, "not there; expected the step of config.sharpness"),
        ({}, "expected STEP, the subclass of Step that is the step"),
        ({"STEP": object}, "expected STEP, the subclass of Step that is the step"),
        ({"STEP": type("Sharp", (Step,), {"VERSION": 1})}, "expected SETTINGS in Sharp"),
    ],
    ids=["no module", "no STEP", "another class", "no SETTINGS"],
)
def test_a_module_that_holds_no_step_is_named(
    held: dict[str, Any] | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if held is not None:
        module = ModuleType("sharpness")
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, "spark_trainer.steps.sharpness", module)
    with pytest.raises(UserError) as raised:
        steps.load("sharpness")
    assert str(raised.value) == f"spark_trainer/steps/sharpness.py: {message}"
