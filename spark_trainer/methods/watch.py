"""What is wrong with a run that learns from rewards, seen in what it records."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from spark_trainer.errors import UserError
from spark_trainer.system import log

COLLAPSED = 0.1  # of the entropy at the start
FAR_APART = 0.2  # nats, on average: more than rounding
UPDATES_OF_NOTHING = 20  # in a row, after which no reward is to be expected
NUM_SHOWN = 3  # answers in a message


class NothingRewardedError(UserError):
    """No answer got a reward for so long that nothing can be learnt; the message shows some."""


class ApartError(UserError):
    """The server that draws answers holds other weights than those that learn."""


@dataclass
class Watch:
    """What was seen up to now."""

    entropy: float | None = None  # of the first update
    nothing: int = 0  # updates in a row without any reward
    wrong: set[str] = field(default_factory=set)  # what is, and was told
    limit: float | None = None  # of how far a server's log-probabilities may be, in nats

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
            ApartError: they were drawn by other weights.
        """
        if "entropy" in values:
            self._look_at_entropy(values["entropy"])
        if "sampling/logp_difference" in values:
            self._look_at_difference(values["sampling/logp_difference"])
        if "frac_reward_zero_std" not in values:
            return  # no answers were drawn
        text = "all answers to a prompt get one reward, whatever the prompt: nothing is learnt"
        self._tell("flat", values["frac_reward_zero_std"] == 1.0, text)
        text = "every answer was cut at train.rft.max_completion_length, before its end"
        self._tell("cut", values.get("completions/clipped_ratio") == 1.0, text)
        declined = "reward" not in values
        unrewarded = declined or values["reward"] == values["reward_std"] == 0.0
        self.nothing = self.nothing + 1 if unrewarded else 0
        if self.nothing >= UPDATES_OF_NOTHING:
            shown = "; ".join(answers[:NUM_SHOWN])
            got = (
                "no reward applied to any answer"
                if declined
                else "the reward of every answer was 0"
            )
            raise NothingRewardedError(
                f"train.rft.reward_funcs: {got} for {self.nothing} updates; the last: {shown}"
            )

    def _look_at_entropy(self, entropy: float) -> None:
        if self.entropy is None:
            self.entropy = entropy
        text = "the entropy fell to %.3g from %.3g at the start: all answers become one"
        self._tell("entropy", entropy < COLLAPSED * self.entropy, text, entropy, self.entropy)

    def _look_at_difference(self, difference: float) -> None:
        text = (
            "log-probabilities in training are %.3g from those that answers were drawn by, on "
            "average: what is learnt is not what was said"
        )
        self._tell("difference", difference > FAR_APART, text, difference)
        if self.limit is not None and not difference <= self.limit:
            raise ApartError(
                "train.rft.vllm.max_logp_difference: log-probabilities in training are "
                f"{difference:.3g} from the server's on average, more than {self.limit:g}: it "
                "holds other weights, or was started without --logprobs-mode processed_logprobs"
            )

    def _tell(self, what: str, wrong: bool, text: str, *values: float) -> None:
        """Warn of something that is wrong and was not before."""
        if wrong and what not in self.wrong:
            log.logger.warning(text, *values)
        self.wrong = self.wrong | {what} if wrong else self.wrong - {what}
