"""What is recorded of a transcript, and the error rates that are computed from the records."""

from pathlib import Path

import pytest

from spark_trainer.families.kinds.transcribed import GeneratedTranscript, scores

SHOWN = [
    GeneratedTranscript("aa", 30.0, "The Zorvex is down.", "The sore vex is down", "en"),
    GeneratedTranscript("bb", 0.0, "", "", "en"),
]


def test_a_record_has_both_texts_and_the_edits(tmp_path: Path) -> None:
    assert SHOWN[0].save(tmp_path) == {
        "video": "aa",
        "start": 30.0,
        "reference": "The Zorvex is down.",
        "text": "The sore vex is down",
        "edits": "the {+sore+} [-zorvex-]{+vex+} is down",
        "language": "en",
    }
    assert not list(tmp_path.iterdir())


def test_the_log_says_both() -> None:
    said = SHOWN[0].described(Path("samples"))
    assert said.startswith("at 30 s 'The sore vex is down', edits: the {+sore+} [-zorvex-]")


def test_scores_of_the_records(tmp_path: Path) -> None:
    records = [one.save(tmp_path) for one in SHOWN]
    got = scores(records, words=["Zorvex"])
    assert (got["wer"], got["insertions"], got["words_recall"]) == (50, 1, 0)
    assert got["text_on_silence"] == 0
    assert scores([]) == {}


def test_edits_are_those_that_are_counted() -> None:
    alike = GeneratedTranscript("aa", 0.0, "I'll pay $20.", "i will pay twenty dollars", "en")
    assert "[-" not in alike.edits
    assert scores([alike.save(Path())])["wer"] == pytest.approx(0)
