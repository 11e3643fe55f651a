"""Rewards `bleu`, `rouge_l` and `cider`: what the answer has in common with the reference."""

from collections.abc import Mapping
from typing import Any

from spark_trainer.data.sample import Unusable
from spark_trainer.errors import UserError
from spark_trainer.metrics import text
from spark_trainer.rewards.base import KEY, Comparing, Given


class _Texts(Comparing[str]):
    """Takes the reference as it is."""

    problem_types = ("free-form",)

    def read(self, reference: str, meta: Mapping[str, Any]) -> str:
        """Return the reference; see `Comparing`."""
        if not text.words(reference):
            raise Unusable(f"{self.name}: the reference {reference!r} has no word to compare")
        return reference


class Bleu(_Texts):
    """BLEU-4 of the one sentence, 0 to 1; see `metrics.text.bleu`."""

    name = "bleu"

    def score(self, said: str, wanted: str) -> float:
        """See `Comparing`."""
        return text.bleu(said, wanted) / 100


class RougeL(_Texts):
    """F1 of the longest common subsequence of words; see `metrics.text.rouge_l`."""

    name = "rouge_l"

    def score(self, said: str, wanted: str) -> float:
        """See `Comparing`."""
        return text.rouge_l(said, wanted)


class Cider(_Texts):
    """CIDEr-D divided by 10; how rare words are is counted once, over all training references.

    Counted over a batch it would be another reward in each.
    """

    name = "cider"

    def __init__(self, given: Given, weight: float = 1.0) -> None:
        super().__init__(given, weight)
        if given.references is None:
            return
        references = list(given.references())
        if len(set(references)) < 2:
            raise UserError(
                f"{KEY}: cider counts how rare words are in the references of training; "
                f"expected 2 or more different ones (got {len(set(references))})"
            )
        self._cider = text.Cider(references)

    def score(self, said: str, wanted: str) -> float:
        """See `Comparing`."""
        return self._cider.score(said, wanted) / 10
