"""Numbers: equal ones, and how far others are away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_trainer.data.sample import Unusable

from .asked import asked, group, scored

numbers = st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-6)


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        ("1234", "1,234", True),
        ("0.3", "0.30000000000000004", True),
        ("50%", "50", True),
        ("50", "50 %", True),
        ("0.5", "50%", True),
        ("50%", "0.5%", False),
        ("5", "four", False),
        ("5", "4 or 5", False),
    ],
)
def test_equal_numbers(reference: str, answer: str, right: bool) -> None:
    assert scored("numeric", group(reference, answer)) == [float(right)]


def test_the_tolerance_is_a_share_of_the_reference() -> None:
    within = {"rewards": {"numeric": {"tolerance": 0.1}}}
    answers = group("-200", "-180", "-220", "-179", "200")
    assert scored("numeric", answers, **within) == [1, 1, 0, 0]


@given(numbers, numbers)
def test_regression_is_the_formula(said: float, wanted: float) -> None:
    [score] = scored("regression", group(repr(wanted), repr(said)))
    expected = 1 - min(1, abs(said - wanted) / abs(wanted)) if wanted else float(said == 0)
    assert score == expected


@pytest.mark.parametrize("name", ["numeric", "regression"])
def test_a_reference_without_one_number_is_told(name: str) -> None:
    with pytest.raises(Unusable, match=f"{name}: the reference '3 or 4' is not one number"):
        asked(name).check("3 or 4", {})
    assert scored(name, group("3", "some")) == [0]
