"""Reward `exact`: the answer has the reference's words."""

from collections.abc import Mapping
from typing import Any

from spark_trainer.data.sample import Unusable
from spark_trainer.rewards import reading
from spark_trainer.rewards.base import Comparing


class Exact(Comparing[str]):
    """1 where both are equal after `reading.normalized`, which is SQuAD's exact match; else 0."""

    name = "exact"
    problem_types = ("OCR",)

    def read(self, reference: str, meta: Mapping[str, Any]) -> str:
        """Return the reference without articles and punctuation; see `Comparing`."""
        if not (wanted := reading.normalized(reference)):
            raise Unusable(f"exact: the reference {reference!r} has no word to compare")
        return wanted

    def score(self, said: str, wanted: str) -> float:
        """See `Comparing`."""
        return float(reading.normalized(said) == wanted)
