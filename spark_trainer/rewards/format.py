"""Reward `format`: the answer has the form that is asked for."""

import re

from spark_trainer.rewards.base import Answered, Given, Reward


class Format(Reward):
    """1 where the whole answer matches `format.pattern`, else 0; DeepSeek-R1's (arXiv:2501.12948).

    Spaces around the answer don't count.
    """

    name = "format"
    gates = True

    def __init__(self, given: Given, weight: float = 1.0) -> None:
        super().__init__(given, weight)
        self._pattern = re.compile(given.rft.rewards.format.pattern)

    def scores(self, answered: Answered) -> list[float | None]:
        """See `Reward`."""
        return [float(bool(self._pattern.fullmatch(one.strip()))) for one in answered.answers]
