"""Advantages of groups made by hand."""

import math

import pytest

from spark_trainer.losses.advantages import advantages, is_flat, spread


def test_a_group_is_measured_by_its_own_mean_and_spread() -> None:
    found = advantages([1.0, 0.0, 0.0, 1.0], "group", of_batch=9.0)
    size = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    assert found == pytest.approx([size, -size, -size, size])


def test_it_may_be_measured_by_the_spread_of_all_or_by_none() -> None:
    assert advantages([3.0, 1.0], "none", of_batch=9.0) == [1.0, -1.0]
    assert advantages([3.0, 1.0], "batch", of_batch=2.0) == pytest.approx([1 / 2.0001, -1 / 2.0001])


def test_an_answer_that_no_reward_applies_to_counts_nowhere() -> None:
    assert advantages([None, 3.0, 1.0], "none", of_batch=0.0) == [0.0, 1.0, -1.0]
    assert advantages([None, None], "group", of_batch=0.0) == [0.0, 0.0]
    assert advantages([None, 5.0], "group", of_batch=0.0) == [0.0, 0.0]


@pytest.mark.parametrize("rewards", [[0.1 + 0.2, 0.3], [1.0, 1.0, None], [None, None]])
def test_rewards_that_differ_by_rounding_are_flat(rewards: list[float | None]) -> None:
    assert is_flat(rewards)
    assert advantages(rewards, "group", of_batch=1.0) == [0.0] * len(rewards)


def test_the_spread_of_all_follows_from_sums() -> None:
    values = [0.0, 1.0, 4.0]
    found = spread(3, sum(values), sum(value * value for value in values))
    assert found == pytest.approx(math.sqrt(13 / 3))
    assert spread(1, 5.0, 25.0) == 0.0
    assert spread(3, 0.3, 0.03) == pytest.approx(0.0, abs=1e-6)
