"""What a reward is asked, and what it says."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from spark_trainer.config import Rft
from spark_trainer.rewards import reading

KEY = "train.rft.reward_funcs"
Wanted = TypeVar("Wanted")


@dataclass(frozen=True)
class Answered:
    """A prompt about a video, with all the answers that the model gave to it.

    Attributes:
        video: the id of the video.
        prompt: the text that was asked; empty where the family's own was.
        reference: the manifest's answer, `text.answer`.
        answers: the texts, without control tokens.
        token_ids: the tokens of each answer, its end among them.
        meta: what the manifest says of the video, with the keys of the item of `text.each`.
        max_length: tokens of an answer at most, `rft.max_completion_length`.
        shuffled: the same with answers over the frames in random order, half as many; None unless
            `Rewards.need_shuffled`, and of a single frame.
        accuracy: how right each answer is: the mean score of the rewards that compare it with the
            reference. `Rewards` fills it in for the bonuses, here and in `shuffled`.
    """

    video: str
    prompt: str
    reference: str
    answers: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    meta: Mapping[str, Any]
    max_length: int
    shuffled: "Answered | None" = None
    accuracy: tuple[float, ...] = ()


@dataclass(frozen=True)
class Given:
    """What rewards are made from.

    Attributes:
        rft: the settings.
        references: gives those of all training samples; without it references are only checked.
    """

    rft: Rft
    references: Callable[[], Iterable[str]] | None = None


class Reward(ABC):
    """Scores answers.

    Attributes:
        name: what the metrics call it.
        weight: what its scores are multiplied by.
        compares: whether it says how right an answer is.
        bonus: whether it is asked after those, and reads `Answered.accuracy`.
        gates: whether an answer to which it gives 0 gains nothing from the others.
        shuffles: whether it reads `Answered.shuffled`.
        problem_types: values of `meta.problem_type`, as Video-R1 spells them, that it is meant for.
    """

    name: str
    weight: float
    compares: ClassVar[bool] = False
    bonus: ClassVar[bool] = False
    gates: ClassVar[bool] = False
    shuffles: ClassVar[bool] = False
    problem_types: ClassVar[tuple[str, ...]] = ()

    def __init__(self, given: Given, weight: float = 1.0) -> None:
        self.weight = weight
        self._rft = given.rft

    @abstractmethod
    def scores(self, answered: Answered) -> list[float | None]:
        """Return the score of each answer, None where the reward has nothing to say.

        Raises:
            Unusable: the reference can't be read, whatever the answers are.
            UserError: the reward fails; the message shows the answer.
        """

    def check(self, reference: str, meta: Mapping[str, Any]) -> None:  # noqa: B027  # most read none
        """Look whether a reference can be read, before anything is answered.

        Raises:
            Unusable: it can't.
        """


class Comparing(Reward, Generic[Wanted]):
    """Compares each answer with the reference, which is read once for all of them."""

    compares = True

    def scores(self, answered: Answered) -> list[float | None]:
        """See `Reward`."""
        wanted = self.read(reading.in_tags(answered.reference), answered.meta)
        asked = self._rft.reads_tags
        said = (reading.in_tags(text, asked) for text in answered.answers)
        return [self.score(text, wanted) for text in said]

    def check(self, reference: str, meta: Mapping[str, Any]) -> None:
        """See `Reward`."""
        self.read(reading.in_tags(reference), meta)

    @abstractmethod
    def read(self, reference: str, meta: Mapping[str, Any]) -> Wanted:
        """Return what an answer is compared with.

        Raises:
            Unusable: the reference can't be read.
        """

    @abstractmethod
    def score(self, said: str, wanted: Wanted) -> float:
        """Return how well an answer agrees, 0 to 1."""
