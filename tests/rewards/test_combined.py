"""How rewards are added up, and which of them an answer gets."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from spark_trainer import rewards
from spark_trainer.config import Rft, Run
from spark_trainer.config.rewards import COMPARING, REWARDS
from spark_trainer.data.sample import Unusable
from spark_trainer.errors import UserError
from spark_trainer.rewards import combined
from spark_trainer.rewards.base import Answered, Reward
from spark_trainer.rewards.combined import Rewards
from spark_trainer.system import log

from .asked import asked, group


@dataclass
class Fixed(Reward):
    """Gives these scores; one called format shuts the others out."""

    name: str
    said: list[float | None]
    weight: float = 1.0

    @property
    def gates(self) -> bool:  # type: ignore[override]
        return self.name == "format"

    def scores(self, answered: Answered) -> list[float | None]:
        return self.said


def total(*each: Reward, gated: bool = True) -> list[float | None]:
    return list(Rewards(each, gated).scored(group("x", "a", "b", "c")).rewards)


def test_the_names_of_the_configuration_are_the_modules() -> None:
    known = rewards.known()
    assert sorted(known) == sorted(REWARDS)
    assert {name for name, one in known.items() if one.compares} == {*COMPARING}


class Slow(Fixed):
    """Takes until something has come true."""

    ready: Callable[[], object]

    def scores(self, answered: Answered) -> list[float | None]:
        end = time.monotonic() + 60
        while not self.ready():
            assert time.monotonic() < end, "it did not come true"
            time.sleep(0.01)
        return self.said


def test_a_reward_that_takes_long_is_named_while_it_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log.logger, "propagate", True)
    monkeypatch.setattr(combined, "SLOW_S", 0.5)
    slow = Slow("mine", [1, 1, 1])
    slow.ready = lambda: caplog.messages
    total(slow, Fixed("other", [1, 1, 1]))
    text = "mine: scoring the answers about video clip takes more than 0.5 s"
    assert {*caplog.messages} == {f"train.rft.reward_funcs: {text}"}


def test_scores_are_added_by_weight_and_none_declines() -> None:
    found = total(Fixed("a", [1, 0.5, None], 2), Fixed("b", [0.25, None, None]))
    assert found == [2.25, 1, None]


def test_a_wrong_format_gains_nothing_and_loses_what_it_loses() -> None:
    parts = (Fixed("right", [1, 1, None]), Fixed("format", [1, 0, 0]), Fixed("long", [-0.5] * 3))
    assert total(*parts) == [1.5, -0.5, -0.5]
    assert total(*parts, gated=False) == [1.5, 0.5, -0.5]


def test_a_function_is_none_of_the_rewards_whatever_it_is_called(tmp_path: Path) -> None:
    """One called format shuts nothing, and one called temporal needs no shuffled frames."""
    file = tmp_path / "mine.py"
    file.write_text("def format(completions):\n    return [0.0]\ntemporal = format\n")
    mine = asked(f"{file}:format", f"{file}:temporal", "exact")
    assert not mine.need_shuffled
    assert mine.scored(group("x", "x")).rewards == (1.0,)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([1.0, float("nan"), 0.0], r"rft\.reward_funcs: mine: nan is no score; the answer: 'b'"),
        ([1.0, 0.0, float("inf")], "inf is no score; the answer: 'c'"),
        ([1.0], "mine: 1 scores for 3 answers; the first answer: 'a'"),
    ],
)
def test_what_is_no_score_stops(said: list[float | None], message: str) -> None:
    with pytest.raises(UserError, match=message):
        total(Fixed("mine", said))


@pytest.mark.parametrize(
    ("kind", "reference", "answer", "parts"),
    [
        ("multiple choice", "B", "B", {"choice": 1, "numeric": None, "repetition": 0}),
        ("numerical", "7", "7", {"choice": None, "numeric": 1, "repetition": 0}),
    ],
)
def test_problems_of_a_kind_get_the_rewards_that_are_meant_for_it(
    kind: str, reference: str, answer: str, parts: Mapping[str, float | None]
) -> None:
    mixed = asked("choice", "numeric", "repetition")
    meta: dict[str, Any] = {"problem_type": kind, "options": ["a dog", "a cat"]}
    mixed.check(reference, meta)
    found = mixed.scored(group(reference, answer, meta=meta))
    assert {name: scores[0] for name, scores in found.parts.items()} == parts


def test_a_kind_that_no_reward_is_meant_for_gets_all() -> None:
    with pytest.raises(Unusable, match="numeric: the reference 'B'"):
        asked("numeric").check("B", {"problem_type": "multiple choice"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"reward_funcs": ["exakt"]},
            r"unknown reward 'exakt'; expected one of: bleu, .*file\.py:",
        ),
        ({"reward_funcs": ["exact", "exact"]}, "two are called exact"),
        ({"reward_funcs": ["exact", "a.py:exact"]}, "two are called exact"),
        ({"reward_funcs": ["length"]}, "length is for right answers; expected a reward beside it"),
        ({"reward_funcs": ["exact"], "reward_weights": [1, 2]}, r"expected 1 numbers.*\(got 2\)"),
        ({"reward_funcs": ["judge"]}, "rewards.judge.model_name: expected the name"),
        (
            {
                "reward_funcs": ["judge"],
                "rewards": {"judge": {"model_name": "m", "server_url": "x"}},
            },
            "server_url: expected http",
        ),
        ({"rewards": {"format": {"pattern": "("}}}, "a regular expression, but"),
        (
            {"reward_funcs": ["soft_overlong"], "rewards": {"soft_overlong": {"cache": 999}}},
            "expected at most max_completion_length, 256",
        ),
    ],
)
def test_what_can_not_be_is_refused_by_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rft(**settings)


def test_settings_count_only_for_the_rewards_that_are_asked() -> None:
    plain = Rft(reward_funcs=["exact"])
    other = Rft(reward_funcs=["exact"], rewards={"numeric": {"tolerance": 0.5}})
    assert plain.results() == other.results()
    judge = {"model_name": "m", "server_url": "http://here/v1"}
    moved = judge | {"server_url": "http://there/v1"}
    one, two = (
        Rft(reward_funcs=["judge"], rewards={"judge": values}).results()
        for values in (judge, moved)
    )
    assert one == two
    assert "rft" not in Run().results()
