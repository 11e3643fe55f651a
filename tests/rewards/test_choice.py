"""Multiple choice: letters, options' texts, and what is neither."""

from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_trainer.data.sample import Unusable

from .asked import asked, group, scored

OPTIONS = ["A. a dog", "B. the cat", "C. An owl", "D. 3 birds"]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("B", True),
        ("(B)", True),
        ("B.", True),
        ("b)", True),
        ("B. the cat", True),
        ("The cat.", True),
        ("The answer is (B)", True),
        ("It is B: the cat is on the mat", True),
        ("A", False),
        ("A or B", False),
        ("B, D", False),
        ("B. a dog", False),  # the letter of one, the text of another
        ("a cat and a dog", False),
        ("A cat, so B", True),  # an article is no letter
        ("F", False),
        ("", False),
        ("Because", False),
    ],
)
@pytest.mark.parametrize("options", [OPTIONS, [one[3:] for one in OPTIONS]], ids=["A.", "plain"])
def test_only_the_right_option_alone_counts(answer: str, right: bool, options: list[str]) -> None:
    said = group("B", answer, meta={"options": options})
    assert scored("choice", said) == [float(right)]


def test_a_reference_is_a_letter_a_tag_or_an_options_text() -> None:
    for reference in ("B", "<answer>B</answer>", "the cat", "B. the cat"):
        assert scored("choice", group(reference, "B", "C", meta={"options": OPTIONS})) == [1, 0]


@pytest.mark.parametrize(
    ("reference", "options", "message"),
    [
        ("B", None, "expected a list of texts in meta.options"),
        ("B", ["a dog"], "expected 2 to 26 options"),
        ("B", ["a dog", "The dog"], "two of its options are the same"),
        ("E", OPTIONS, "'E' names none of the options A, B, C, D"),
        ("A or B", OPTIONS, "or several"),
        ("a bird", OPTIONS, "names none"),
    ],
)
def test_a_reference_that_names_no_option_is_told_before_any_answer(
    reference: str, options: list[str] | None, message: str
) -> None:
    with pytest.raises(Unusable, match=message):
        asked("choice").check(reference, {"options": options})


@given(st.text(max_size=40), st.integers(2, 26), st.data())
def test_at_most_one_option_is_right_whatever_is_said(
    said: str, count: int, data: st.DataObject
) -> None:
    options = [f"thing number {number}" for number in range(count)]
    letters = ascii_uppercase[:count]
    scores = [scored("choice", group(one, said, meta={"options": options})) for one in letters]
    assert sum(map(sum, scores)) in (0, 1)  # type: ignore[arg-type]
    right = data.draw(st.sampled_from(letters))
    assert scored("choice", group(right, right, meta={"options": options})) == [1]
