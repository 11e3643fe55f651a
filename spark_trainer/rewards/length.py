"""Reward `length`: right answers that are neither short nor long."""

from spark_trainer.rewards.base import Answered, Reward
from spark_trainer.rewards.temporal import is_right

BONUS = 0.2


class Length(Reward):
    """0.2 for a right answer of `length.min_tokens` to `length.max_tokens`, as Video-R1 has it."""

    name = "length"
    bonus = True

    def scores(self, answered: Answered) -> list[float | None]:
        """See `Reward`."""
        wanted = self._rft.rewards.length
        return [
            BONUS
            if is_right(accuracy) and wanted.min_tokens <= len(ids) <= wanted.max_tokens
            else 0.0
            for accuracy, ids in zip(answered.accuracy, answered.token_ids, strict=True)
        ]
