"""What was heard stands below what was said, word below word."""

import pytest

from spark_trainer.report import side_by_side


def rows(said: str, before: str, after: str, language: str = "en") -> list[str]:
    """The texts of the three rows, without their names."""
    old, new = (
        {"reference": said, "text": text, "edits": "", "language": language}
        for text in (before, after)
    )
    return [row[14:] for row in side_by_side.rows(old, new)]


def test_words_stand_below_each_other() -> None:
    said = "It is late. Yesterday Zorvane was faster than Osquith. Write it down."
    before = "it is late, yesterday sore vein was faster than us with. Write down."
    after = "It is late. Yesterday Zorvane was faster than ask with. Write it now down."
    assert rows(said, before, after) == [
        "Yesterday Zorvane     was faster than Osquith.",
        "yesterday [sore vein] was faster than [us with.]",
        "Yesterday Zorvane     was faster than [ask with.]",
    ]


@pytest.mark.parametrize(
    ("said", "before", "after"),
    [
        ("Zorvex is down", "oh Zorvex down", ""),
        ("Zorvex is down", "Zorvex", "well Zorvex is down now then"),
        ("uh, Zorvex", "10", "uh"),
    ],
)
def test_no_word_is_lost(said: str, before: str, after: str) -> None:
    shown = rows(said, before, after)
    plain = [" ".join(row.replace("[", " ").replace("]", " ").split()) for row in shown]
    assert plain == [said, before, after]


@pytest.mark.parametrize(("said", "language"), [("", "en"), ("今日は晴れです", "ja")])
def test_what_has_no_words_is_shown_as_it_is(said: str, language: str) -> None:
    assert rows(said, "so", "oh", language) == [said, "so", "oh"]


def test_a_row_fits_on_a_terminal() -> None:
    long = " ".join(["word"] * 99)
    assert {len(row) for row in rows(long, long, long)} == {len("word " * 13) + 1}
    caption = {"caption": long, "generated": "a\n\x1b[2Jdog"}
    wanted, before, _ = side_by_side.rows(caption, caption)
    assert (len(wanted), wanted[-1]) == (16 + side_by_side.WIDTH, "…")
    assert before == "written before  a\\n\\x1b[2Jdog"
