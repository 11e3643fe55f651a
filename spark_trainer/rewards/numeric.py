"""Rewards `numeric` and `regression`: the answer is a number."""

from collections.abc import Mapping
from typing import Any

from spark_trainer.data.sample import Unusable
from spark_trainer.rewards import reading
from spark_trainer.rewards.base import Comparing
from spark_trainer.rewards.reading import Number

ROUNDING = 1e-9  # share of the reference that is no difference: 0.1 + 0.2 is 0.3


class _Numbers(Comparing[Number]):
    """Reads the one number of the reference; an answer without one, or with two, gets 0."""

    def read(self, reference: str, meta: Mapping[str, Any]) -> Number:
        """Return the reference's number; see `Comparing`."""
        if (wanted := reading.number(reference)) is None:
            raise Unusable(f"{self.name}: the reference {reference!r} is not one number")
        return wanted


class Numeric(_Numbers):
    """1 where the number is the reference's, within `numeric.tolerance`; else 0.

    `1,234` is 1234. Where one of the two has a %, 50 % is 50 or 0.5.
    """

    name = "numeric"
    problem_types = ("numerical",)

    def score(self, said: str, wanted: Number) -> float:
        """See `Comparing`."""
        found = reading.number(said)
        share = max(self._rft.rewards.numeric.tolerance, ROUNDING)
        return float(found is not None and found.away_from(wanted) <= share * abs(wanted.value))


class Regression(_Numbers):
    """1 - min(1, |x - y| / |y|), as Video-R1 has it (arXiv:2503.21776); for y = 0 only 0 counts."""

    name = "regression"
    problem_types = ("regression",)

    def score(self, said: str, wanted: Number) -> float:
        """See `Comparing`."""
        found = reading.number(said)
        if found is None:
            return 0.0
        away = found.away_from(wanted)
        if not wanted.value:
            return float(away == 0)
        return 1.0 - min(1.0, away / abs(wanted.value))
