"""Rewards that look at an answer's form, and those for right answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_trainer.data.sample import Unusable

from .asked import asked, group, scored


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        ("a red car", "The RED car!", True),
        ("red car", "red  \n car", True),
        ("Stra\u00dfe", "STRASSE", True),
        ("\uff32ed", "red", True),
        ("theatre", "atre", False),
        ("red car", "car red", False),
    ],
)
def test_exact_compares_words(reference: str, answer: str, right: bool) -> None:
    assert scored("exact", group(reference, answer)) == [float(right)]


def test_exact_needs_a_word() -> None:
    with pytest.raises(Unusable, match="'The!' has no word"):
        asked("exact").check("The!", {})


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("<think>so</think><answer>B</answer>", True),
        ("\n<think>so\nso</think>\n\n<answer>B</answer>\n", True),
        ("<answer>B</answer>", False),
        ("<think>so</think><answer></answer>", False),
        ("<think>so</think><answer>A</answer><answer>B</answer>", False),
        ("Well: <think>so</think><answer>B</answer>", False),
        ("<think>so</think><answer>B</answer> Right?", False),
    ],
)
def test_the_whole_answer_has_the_format(answer: str, right: bool) -> None:
    assert scored("format", group("B", answer)) == [float(right)]


def test_a_format_of_ones_own() -> None:
    own = {"rewards": {"format": {"pattern": "[A-D]"}}}
    assert scored("format", group("B", "B", "E", "BB"), **own) == [1, 0, 0]


def test_soft_overlong_falls_from_0_to_minus_1() -> None:
    """L = 100, C = 20 and, without a setting, a fifth."""
    lengths = [1, 80, 85, 90, 100]
    answers = group("x", *"abcde", lengths=lengths)
    assert scored("soft_overlong", answers) == [0, 0, -0.25, -0.5, -1]
    cache = {"rewards": {"soft_overlong": {"cache": 10}}}
    assert scored("soft_overlong", answers, **cache) == [0, 0, 0, 0, -1]


def test_repetition_counts_ngrams_that_were_there_before() -> None:
    answers = group("x", "no no no no", "a b c d", "a b", "A b c a B c")
    assert scored("repetition", answers) == [-0.5, 0, 0, -0.25]
    half = {"rewards": {"repetition": {"ngram_size": 1, "max_penalty": -2}}}
    assert scored("repetition", answers, **half) == [-1.5, 0, 0, -1]


@given(st.text(), st.integers(1, 4))
def test_repetition_is_between_its_penalty_and_0(text: str, size: int) -> None:
    settings = {"rewards": {"repetition": {"ngram_size": size, "max_penalty": -0.5}}}
    [score] = scored("repetition", group("x", text), **settings)
    assert score is not None
    assert -0.5 <= score <= 0


def test_length_is_for_right_answers_of_some_tokens() -> None:
    answers = group("yes", "yes", "yes", "yes", "yes", "no", lengths=[319, 320, 512, 513, 400])
    rewards = asked("exact", "length").scored(answers)
    assert list(rewards.parts["length"]) == [0, 0.2, 0.2, 0, 0]
    assert list(rewards.rewards) == [1, 1.2, 1.2, 1, 0]


@pytest.mark.parametrize(
    ("in_order", "at_random", "ratio", "given"),
    [
        (["yes", "no"], ["yes"], 0.8, False),  # 0.5 against 0.8
        (["yes", "no"], ["no"], 0.8, True),
        (["yes", "yes", "yes", "yes", "no"], ["yes", "yes"], 0.8, True),  # 0.8, as the code has it
        (["yes", "yes", "yes", "yes", "no"], ["yes", "yes"], 1.0, False),  # as the paper has it
        (["no", "no"], ["no"], 0.8, False),  # no answer is right
    ],
)
def test_temporal_is_for_groups_to_which_the_order_helps(
    in_order: list[str], at_random: list[str], ratio: float, given: bool
) -> None:
    answers = group("yes", *in_order, shuffled=group("yes", *at_random))
    settings = {"rewards": {"temporal": {"ratio": ratio}}}
    found = asked("exact", "temporal", **settings).scored(answers)
    assert asked("exact", "temporal").need_shuffled
    expected = [0.3 if given and answer == "yes" else 0 for answer in in_order]
    assert list(found.parts["temporal"]) == expected


def test_temporal_says_nothing_without_answers_over_shuffled_frames() -> None:
    assert list(asked("exact", "temporal").scored(group("yes", "yes")).rewards) == [1]
