"""Reward `soft_overlong`: long answers lose."""

from spark_trainer.rewards.base import Answered, Reward


class SoftOverlong(Reward):
    """0 up to L - C tokens, (L - C - T) / C up to L, -1 beyond: DAPO's (arXiv:2503.14476, eq. 13).

    T are the answer's tokens, L is `rft.max_completion_length`, C `soft_overlong.cache`.
    """

    name = "soft_overlong"

    def scores(self, answered: Answered) -> list[float | None]:
        """See `Reward`."""
        longest = answered.max_length
        cache = self._rft.rewards.soft_overlong.cache or max(1, longest // 5)
        free = longest - cache
        return [-min(1.0, max(0.0, (len(ids) - free) / cache)) for ids in answered.token_ids]
