"""All rewards of a run: which of them an answer gets, and their weighted sum."""

import contextlib
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from spark_trainer.errors import UserError
from spark_trainer.rewards.base import KEY, Answered, Reward
from spark_trainer.rewards.reading import shown
from spark_trainer.system import log

SLOW_S = 60.0
Scores = Sequence[float | None]


@dataclass(frozen=True)
class Scored:
    """The rewards of a group's answers.

    Attributes:
        rewards: what each answer gets in all; None where no reward has anything to say.
        parts: name of a reward -> its own score of each answer, before weight and gate.
        seconds: that scoring took.
    """

    rewards: tuple[float | None, ...]
    parts: dict[str, tuple[float | None, ...]]
    seconds: float = field(default=0.0, compare=False)


class Rewards:
    """Some rewards, added up by their weights.

    Args:
        each: the rewards, each under a name of its own.
        gated: where one that `gates` gives 0, only what the others take away counts.
    """

    def __init__(self, each: Sequence[Reward], gated: bool) -> None:
        self._each = tuple(each)
        self._gated = gated

    @property
    def names(self) -> list[str]:
        """List the rewards by name."""
        return [one.name for one in self._each]

    @property
    def need_shuffled(self) -> bool:
        """Tell whether answers over shuffled frames are needed beside the others."""
        return any(one.shuffles for one in self._each)

    def check(self, reference: str, meta: Mapping[str, Any]) -> None:
        """Look whether the rewards that apply can read a reference.

        Raises:
            Unusable: one can't; the message says why.
        """
        for one in self._each:
            if self._applies(one, meta):
                one.check(reference, meta)

    def scored(self, answered: Answered) -> Scored:
        """Score a group.

        Raises:
            Unusable: its reference can't be read.
            UserError: a reward gives too few scores, or none that is a number.
            MachineError: a judge can't be reached.
        """
        began = time.perf_counter()
        first = {one.name: self._asked(one, answered) for one in self._each if not one.bonus}
        if any(one.bonus for one in self._each):
            answered = self._with_accuracy(answered, first)
        parts = {
            one.name: first[one.name] if not one.bonus else self._asked(one, answered)
            for one in self._each
        }
        rewards = tuple(self._sum(parts, place) for place in range(len(answered.answers)))
        told = {name: tuple(scores) for name, scores in parts.items()}
        return Scored(rewards, told, time.perf_counter() - began)

    def _applies(self, one: Reward, meta: Mapping[str, Any]) -> bool:
        """Tell whether a reward is meant for a problem; one that none is meant for is everyone's.

        So a run may mix multiple choice with numbers, each with a reward of its own.
        """
        kind = meta.get("problem_type")
        meant = any(kind in other.problem_types for other in self._each)
        return not (meant and one.problem_types and kind not in one.problem_types)

    def _asked(self, one: Reward, answered: Answered) -> Scores:
        """Return a reward's scores.

        Raises:
            UserError: there are too few, or one is no number.
        """
        if not self._applies(one, answered.meta):
            return [None] * len(answered.answers)
        where = f"{KEY}: {one.name}"
        with _named_if_slow(where, answered.video):
            scores = one.scores(answered)
        if len(scores) != len(answered.answers):
            raise UserError(
                f"{where}: {len(scores)} scores for {len(answered.answers)} answers; the first "
                f"answer: {shown(answered.answers[0])}"
            )
        for score, answer in zip(scores, answered.answers, strict=True):
            if score is not None and not math.isfinite(score):
                raise UserError(f"{where}: {score} is no score; the answer: {shown(answer)}")
        return scores

    def _with_accuracy(self, answered: Answered, first: Mapping[str, Scores]) -> Answered:
        """Return a group, and that over shuffled frames, with how right each answer is."""
        comparing = [one for one in self._each if one.compares]
        shuffled = answered.shuffled
        if shuffled is not None:
            theirs = [self._asked(one, shuffled) for one in comparing]
            shuffled = replace(shuffled, accuracy=_means(theirs))
        ours = [first[one.name] for one in comparing]
        return replace(answered, accuracy=_means(ours), shuffled=shuffled)

    def _sum(self, parts: Mapping[str, Scores], place: int) -> float | None:
        shut = self._gated and any(one.gates and parts[one.name][place] == 0 for one in self._each)
        said = [
            one.weight * score
            for one in self._each
            if (score := parts[one.name][place]) is not None
        ]
        if not said:
            return None
        return math.fsum(min(0.0, part) if shut else part for part in said)


@contextlib.contextmanager
def _named_if_slow(where: str, video: str) -> Iterator[None]:
    """Name in the log what takes long while it does, for it may never end."""
    text = "%s: scoring the answers about video %s takes more than %g s"
    timer = threading.Timer(SLOW_S, log.logger.warning, (text, where, video, SLOW_S))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _means(scores: Sequence[Scores]) -> tuple[float, ...]:
    """Return the mean score of each answer; 0 where nobody has anything to say."""
    return tuple(
        fmean(known) if (known := [one for one in of_answer if one is not None]) else 0.0
        for of_answer in zip(*scores, strict=True)
    )
