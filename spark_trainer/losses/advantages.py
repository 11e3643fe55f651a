"""How much better an answer is than the others to the same prompt."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Literal

FLAT = 1e-6  # rewards of a group that differ by no more are one and the same
TINY = 1e-4  # added to a standard deviation, as TRL and DeepSeekMath (2402.03300) do

Rewards = Sequence[float | None]  # of the answers to a prompt; None where no reward applies


def is_flat(rewards: Rewards) -> bool:
    """Tell whether nothing can be learnt from a group: all its answers have one reward."""
    known = [reward for reward in rewards if reward is not None]
    return not known or max(known) - min(known) <= FLAT


def spread(num: float, total: float, squares: float) -> float:
    """Return the standard deviation of so many rewards, from their sum and that of their squares.

    Of fewer than two it is 0.
    """
    if num < 2:
        return 0.0
    return math.sqrt(max(0.0, squares - total * total / num) / (num - 1))


def advantages(
    rewards: Rewards, scale: Literal["group", "batch", "none"], of_batch: float
) -> list[float]:
    """Return the advantage of each answer of a group; 0 where no reward applies, or all are one.

    Args:
        rewards: of the answers.
        scale: the standard deviation that they are divided by, as `rft.scale_rewards`.
        of_batch: that of all answers of the update.
    """
    known = [reward for reward in rewards if reward is not None]
    if is_flat(rewards):
        return [0.0] * len(rewards)
    mean = fmean(known)
    divisor = {"group": stdev(known) + TINY, "batch": of_batch + TINY, "none": 1.0}[scale]
    return [0.0 if reward is None else (reward - mean) / divisor for reward in rewards]
