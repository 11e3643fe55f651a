"""What is wrong with a run that learns from rewards, seen in what it records."""

from collections.abc import Sequence
from dataclasses import dataclass

from spark_trainer.errors import UserError
from spark_trainer.system import log

COLLAPSED = 0.1  # of the entropy at the start
UPDATES_OF_NOTHING = 20  # in a row, after which no reward is to be expected
NUM_SHOWN = 3  # answers in a message


class NothingRewardedError(UserError):
    """No answer got a reward for so long that nothing can be learnt; the message shows some."""


@dataclass
class Watch:
    """What was seen up to now."""

    entropy: float | None = None  # of the first update
    collapsed: bool = False
    flat: bool = False
    nothing: int = 0  # updates in a row

    def remembered(self) -> dict[str, float]:
        """Return what a run goes on from."""
        told = {"nothing": float(self.nothing)}
        return told if self.entropy is None else told | {"entropy": self.entropy}

    def recall(self, values: dict[str, float]) -> None:
        """Go on from what a run had seen."""
        self.nothing, self.entropy = int(values.get("nothing", 0)), values.get("entropy")

    def see(self, values: dict[str, float], answers: Sequence[str]) -> None:
        """Look at what is recorded of an update.

        Args:
            values: by name.
            answers: some that were drawn for it, as they are shown.

        Raises:
            NothingRewardedError: none of the answers of many updates got a reward.
        """
        self._look_at_entropy(values.get("entropy"))
        if "reward" not in values:
            return
        flat = values["frac_reward_zero_std"] == 1.0
        if flat and not self.flat:
            text = "all answers to a prompt get one reward, whatever the prompt: nothing is learnt"
            log.logger.warning(text)
        self.flat = flat
        unrewarded = values["reward"] == 0.0 and values["reward_std"] == 0.0
        self.nothing = self.nothing + 1 if unrewarded else 0
        if self.nothing >= UPDATES_OF_NOTHING:
            shown = "; ".join(answers[:NUM_SHOWN])
            raise NothingRewardedError(
                f"train.rft.reward_funcs: the reward of every answer was 0 for {self.nothing} "
                f"updates; the last: {shown}"
            )

    def _look_at_entropy(self, entropy: float | None) -> None:
        if entropy is None:
            return
        if self.entropy is None:
            self.entropy = entropy
        collapsed = entropy < COLLAPSED * self.entropy
        if collapsed and not self.collapsed:
            text = "the entropy fell to %.3g from %.3g at the start: all answers become one"
            log.logger.warning(text, entropy, self.entropy)
        self.collapsed = collapsed
