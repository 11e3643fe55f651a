"""Reward `temporal`: the order of the frames helps."""

from statistics import fmean

from spark_trainer.rewards.base import Answered, Reward

BONUS = 0.3
WRONG = 0.1  # accuracy of an answer that is none; Video-R1's code


class Temporal(Reward):
    """0.3 for each right answer of a group that is better than one over shuffled frames.

    T-GRPO (Video-R1, arXiv:2503.21776): the group's mean accuracy p is at least `temporal.ratio`
    times that of half as many answers over the frames in random order. The paper has p ≥ p̃, its
    code 0.8 p̃. The rollout gives those answers as `Answered.shuffled`.
    """

    name = "temporal"
    bonus = True
    shuffles = True

    def scores(self, answered: Answered) -> list[float | None]:
        """See `Reward`; a clip of one frame has no order."""
        if answered.shuffled is None:
            return [None] * len(answered.answers)
        least = self._rft.rewards.temporal.ratio * fmean(answered.shuffled.accuracy)
        better = fmean(answered.accuracy) >= least
        return [BONUS if better and is_right(one) else 0.0 for one in answered.accuracy]


def is_right(accuracy: float) -> bool:
    """Tell whether an answer counts as right, as in Video-R1's code."""
    return accuracy > WRONG
