"""Whole files as the project's transcriber hears them: what is counted, written and said."""

import json
from pathlib import Path

import numpy as np
import pytest

from spark_trainer.config import Run
from spark_trainer.families.kinds import long_form
from spark_trainer.speech.formats import names
from spark_trainer.speech.heard import Recording
from spark_trainer.speech.segments import Segment
from spark_trainer.transcribers import Sound
from tests import sounds

NAME = "offline-tiny.en"
READING = Path(__file__).parents[2] / "assets/librivox-0890.wav"
TEXT = "unless to be rather cold hearted and rather selfish is to be ill disposed"
FILE = Recording("aa", "talk.mp4", READING, (Segment(0.0, 5.0, TEXT),), ((8.0, 14.0),), "en")


def refuse(_: Path) -> None:
    raise AssertionError("openai-whisper reads the base as it is")


def test_text_on_silence_counts_by_where_it_stands() -> None:
    right, invented = Segment(0.0, 5.0, TEXT), Segment(9.0, 10.0, "Thank you.")
    silent, loud = (long_form.scores([FILE], [said], ()) for said in ([right], [right, invented]))
    assert (silent["wer"], silent["text_on_silence"]) == (0, 0)
    assert (loud["insertions"], loud["text_on_silence"]) == (2, 100)


def test_a_model_that_learnt_nothing_is_as_good_as_its_base(tmp_path: Path) -> None:
    """Through openai-whisper, where nothing is exported for faster-whisper."""
    run = Run(model_type="asr", model_name=NAME, asr={"export": ["hf"]})
    for file in names.wheel(NAME).iterdir():
        (tmp_path / file.name).symlink_to(file)
    sounds.entry(tmp_path, "noise")
    noise = tmp_path / "noise" / "audio.wav"
    beside = Recording("bb", "noise.mp4", noise, (Segment(0.5, 2.0, "a dog"),), (), "en")
    parts = {"": [FILE], "forgetting_": [beside]}
    before, after = long_form.measure(tmp_path, run, parts, ["selfish"], "cpu", refuse)
    assert before == after
    assert after["words_recall_long"] == 100
    assert after["wer_long"] < 10
    assert after["forgetting_wer_long"] == 100  # noise is no voice
    told = json.loads((tmp_path / "wer.json").read_text())
    [one] = told["held_out"]["files"]
    assert (one["path"], one["words"], one["reference"]) == ("talk.mp4", 14, TEXT)
    assert one["after"]["wer"] == after["wer_long"]


def test_hours_of_sound_are_not_held_at_once() -> None:
    """Short files come by their number, long ones by their length: each here is 1000 s long."""
    long = (Sound(np.zeros(16_000_000, np.float32)) for _ in range(5))
    short = (Sound(np.zeros(16_000, np.float32)) for _ in range(9))
    assert [len(some) for some in long_form._batches(long, 8)] == [2, 2, 1]
    assert [len(some) for some in long_form._batches(short, 8)] == [8, 1]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            {"finetune": "lora", "save": "adapter", "asr": {"export": ["hf"]}},
            "an adapter alone; expected train.save: merged",
        ),
        ({"asr": {"task": "translate"}}, "it doesn't translate"),
    ],
)
def test_what_hinders_it_is_said(
    settings: dict[str, object], why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(model_type="asr", model_name="tiny", **settings)
    assert long_form.measure(tmp_path, run, {"": [FILE]}, (), "cpu", refuse) == ({}, {})
    assert "wer_long" in caplog.text
    assert why in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("files", "wanted"), [([], True), ([FILE], False)])
def test_without_files_nothing_is_said(
    files: list[Recording], wanted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(model_type="asr", model_name="tiny", asr={"whole_files": wanted})
    assert long_form.measure(tmp_path, run, {"": files}, (), "cpu", refuse) == ({}, {})
    assert not caplog.text
