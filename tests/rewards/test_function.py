"""Rewards in files of the user's."""

from pathlib import Path

import pytest

from spark_trainer.data.sample import Unusable
from spark_trainer.errors import MachineError, UserError

from .asked import asked, group

MINE = """\
from __future__ import annotations
import sys
from dataclasses import dataclass


@dataclass
class Own:  # looks its module up
    share: float = 0.5


def seen(prompts, completions, completion_ids, options, **columns):
    assert prompts == ["What is seen?"] * len(completions)
    assert columns["reference"] == ["a cat"] * len(completions)
    assert columns["video"] == ["clip"] * len(completions)
    assert options == [["x", "y"]] * len(completions)
    return [len(ids) for ids in completion_ids]


def few(completions, reference):
    return [None if text == "?" else float(text == wanted)
            for text, wanted in zip(completions, reference)]


def bad(completions):
    return [1 / len(text) for text in completions]


def wrong(completions):
    return {"nan": [float("nan")] * 2, "text": ["0.5", 1], "count": [1], "huge": [10**400, 1]}.get(
        completions[0], 1.0)


def ends(completions):
    sys.exit(0)


def changes(completions, completion_ids, options):
    options[0].clear()
    completion_ids[0].clear()
    completions.append("more")
    return [Own().share, 0]


def gone(completions):
    raise ConnectionRefusedError(111, "Connection refused")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_a_function_gets_what_trl_gives_it(file: Path) -> None:
    answers = group("a cat", "one", "two words", meta={"options": ["x", "y"]})
    found = asked(f"{file}:seen").scored(answers)
    assert found.parts == {"seen": (1, 2)}


def test_a_function_gets_only_the_columns_that_it_names_and_may_decline(file: Path) -> None:
    found = asked(f"{file}:few").scored(group("a cat", "a cat", "?", meta={"fps": 3}))
    assert found.rewards == (1, None)


@pytest.mark.parametrize(
    ("function", "answers", "message"),
    [
        ("bad", ["fine", ""], r"mine\.py:bad: line 25: ZeroDivisionError: .*; the answer: ''"),
        (
            "wrong",
            ["nan", "b"],
            r"mine\.py:wrong: expected a number or None \(got nan\); the answer: 'nan'",
        ),
        ("wrong", ["text", "b"], r"got '0\.5'\); the answer: 'text'"),
        ("wrong", ["huge", "b"], r"got 1000+\); the answer: 'huge'"),
        ("ends", ["x", "b"], r"ends: line 34: SystemExit: 0; the answer: 'x'"),
        ("wrong", ["count", "b"], r"wrong: 1 scores for 2 answers; the first answer: 'count'"),
        ("wrong", ["x", "b"], r"wrong: expected a list \(got float\)"),
        ("seen", ["x", "b"], r"seen: TypeError: .*'options'"),
    ],
)
def test_what_fails_names_file_function_line_and_answer(
    file: Path, function: str, answers: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        asked(f"{file}:{function}").scored(group("a cat", *answers))


def test_what_a_function_changes_is_its_own(file: Path) -> None:
    answers = group("a cat", "x", "y", meta={"options": ["x", "y"]})
    for _ in range(2):
        assert asked(f"{file}:changes").scored(answers).rewards == (0.5, 0)


def test_a_column_that_no_video_has_is_told_before_anything_is_answered(file: Path) -> None:
    mine = asked(f"{file}:seen")
    mine.check("a cat", {"options": ["x", "y"]})
    with pytest.raises(
        Unusable, match=r"mine\.py:seen asks for 'options', which meta doesn't have"
    ):
        mine.check("a cat", {"option": ["x", "y"]})


def test_trouble_of_the_machine_in_a_function_is_the_machines(file: Path) -> None:
    with pytest.raises(MachineError, match=r"gone: line .*refused; the answer: 'x'"):
        asked(f"{file}:gone").scored(group("a cat", "x"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "mine.py:seen: the file has no such function"),
        ("x = 1\nx / 0", "mine.py:seen: line 2: ZeroDivisionError"),
        ("def seen(", "mine.py:seen: SyntaxError"),
        ("import sys\nsys.exit()", "mine.py:seen: line 2: SystemExit"),
        (None, "mine.py:seen: No such file or directory"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(
    tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=message):
        asked(f"{tmp_path}/mine.py:seen")
