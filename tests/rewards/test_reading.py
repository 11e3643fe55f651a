"""What is read of an answer: tags, numbers, intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_trainer.rewards import reading
from spark_trainer.rewards.reading import Number


@pytest.mark.parametrize(
    ("text", "required", "expected"),
    [
        ("<think>A or B</think><answer> B </answer>", True, "B"),
        ("<answer>A</answer> no, <answer>B</answer>", False, "B"),
        ("<answer>A", True, ""),
        ("plain", False, "plain"),
        ("plain", True, ""),
    ],
)
def test_the_last_tagged_part_is_read(text: str, required: bool, expected: str) -> None:
    assert reading.in_tags(text, required) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,234.5", 1234.5),
        ("the answer is 42 m.", 42),
        ("\u22125", -5),
        (".5", 0.5),
        ("1e3", 1000),
        ("\uff14\uff12", 42),  # full-width digits
        ("10-12", None),
        ("3 or 4", None),
        ("1.2.3 or x7", 1.2),
        ("9" * 400, None),
        ("none", None),
    ],
)
def test_one_number_is_read(text: str, expected: float | None) -> None:
    found = reading.number(text)
    assert (None if found is None else found.value) == expected


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_read_as_python_writes_it(value: float) -> None:
    assert reading.number(repr(value)) == Number(value, percent=False)


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_change_no_number(value: int) -> None:
    assert reading.number(f"{value:,}") == Number(value, percent=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1.5, 3]", [(1.5, 3.0)]),
        ("from 12.5 s to 15 seconds", [(12.5, 15.0)]),
        ("0:12 \u2013 1:02:03.5", [(12.0, 3723.5)]),
        ("3 to 4 and 6 to 8", [(3.0, 4.0), (6.0, 8.0)]),
        ("[[1, 2], [3, 4]]", [(1.0, 2.0), (3.0, 4.0)]),
        ("between 2 and 5", [(2.0, 5.0)]),
        ("at 3 seconds", []),
    ],
)
def test_intervals_are_read(text: str, expected: list[tuple[float, float]]) -> None:
    assert reading.intervals(text) == expected


@given(st.text())
def test_normalising_twice_changes_nothing_but_what_folding_makes(text: str) -> None:
    once = reading.normalized(text)
    assert once == " ".join(once.split())
    assert not any(sign in once for sign in ".,;:!?()")
