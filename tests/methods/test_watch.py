"""What is wrong with a run is said once, and remembered where it goes on."""

import logging
import math
from collections.abc import Callable

import pytest

from spark_trainer.methods.watch import UPDATES_OF_NOTHING, ApartError, NothingRewardedError, Watch
from spark_trainer.system import log

USUAL = {"reward": 0.5, "reward_std": 0.2, "frac_reward_zero_std": 0.1}
NOTHING = {"reward": 0.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0}
ANSWERS = ["'blue' (reference: 'red')"]


@pytest.fixture
def said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], list[str]]:
    monkeypatch.setattr(log.logger, "propagate", True)
    caplog.set_level(logging.WARNING)
    return lambda: caplog.messages


def test_a_collapse_of_the_entropy_is_told_once(said: Callable[[], list[str]]) -> None:
    watch = Watch()
    for entropy in (2.0, 0.3, 0.19, 0.1):
        watch.see(USUAL | {"entropy": entropy}, ANSWERS)
    assert said() == ["the entropy fell to 0.19 from 2 at the start: all answers become one"]


def test_it_is_measured_from_the_start_of_a_run_that_goes_on(said: Callable[[], list[str]]) -> None:
    first, second = Watch(), Watch()
    first.see(USUAL | {"entropy": 2.0}, ANSWERS)
    second.recall(first.remembered())
    second.see(USUAL | {"entropy": 0.1}, ANSWERS)
    assert len(said()) == 1


def test_updates_without_any_reward_are_counted_over_a_stop() -> None:
    first, second = Watch(), Watch()
    for _ in range(UPDATES_OF_NOTHING - 2):
        first.see(NOTHING, ANSWERS)
    second.recall(first.remembered())
    second.see(NOTHING, ANSWERS)
    with pytest.raises(NothingRewardedError, match=r"for 20 updates; the last: 'blue'"):
        second.see(NOTHING, ANSWERS)


def test_answers_that_never_end_are_told(said: Callable[[], list[str]]) -> None:
    watch = Watch()
    for share in (0.9, 1.0, 1.0):
        watch.see(USUAL | {"completions/clipped_ratio": share}, ANSWERS)
    assert said() == ["every answer was cut at train.rft.max_completion_length, before its end"]


def test_updates_in_which_every_reward_declines_are_no_better(
    said: Callable[[], list[str]],
) -> None:
    watch = Watch()
    for _ in range(UPDATES_OF_NOTHING - 1):
        watch.see({"frac_reward_zero_std": 1.0}, ANSWERS)
    assert len(said()) == 1
    with pytest.raises(NothingRewardedError, match=r"no reward applied to any answer for 20"):
        watch.see({"frac_reward_zero_std": 1.0}, ANSWERS)


def test_one_reward_begins_the_count_anew(said: Callable[[], list[str]]) -> None:
    watch = Watch()
    for number in range(3 * UPDATES_OF_NOTHING):
        watch.see(NOTHING if number % UPDATES_OF_NOTHING else USUAL, ANSWERS)
        watch.see({"entropy": 2.0}, ANSWERS)  # an update by the answers of the one before
    assert len(said()) == 3
    assert "nothing is learnt" in said()[0]


def test_learning_from_what_was_not_said_is_told(said: Callable[[], list[str]]) -> None:
    """As where a forward pass gets no frames."""
    watch = Watch()
    for difference in (1e-7, 0.02, 0.5, 0.6):
        watch.see(USUAL | {"sampling/logp_difference": difference}, ANSWERS)
    assert len(said()) == 1
    assert "0.5 from those that answers were drawn by" in said()[0]


@pytest.mark.parametrize("difference", [0.31, math.nan])
def test_a_server_by_other_weights_stops_a_run(difference: float) -> None:
    watch = Watch(limit=0.3)
    watch.see({"sampling/logp_difference": 0.3}, [])
    with pytest.raises(ApartError, match=r"max_logp_difference: .* more than 0\.3"):
        watch.see({"sampling/logp_difference": difference}, [])
