"""What a reward is asked, and what it says."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answered:
    """A prompt about a video, with all the answers that the model gave to it.

    Attributes:
        video: the id of the video.
        prompt: the text that was asked; empty where the family's own was.
        reference: the manifest's answer, `text.answer`.
        answers: the texts, without control tokens.
        token_ids: the tokens of each answer, its end among them.
        meta: what the manifest says of the video.
        max_length: tokens of an answer at most, `rft.max_completion_length`.
    """

    video: str
    prompt: str
    reference: str
    answers: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    meta: Mapping[str, Any]
    max_length: int


class Reward(ABC):
    """Scores answers.

    Attributes:
        name: what the metrics call it.
        weight: what its scores are multiplied by.
    """

    name: str
    weight: float

    @abstractmethod
    def scores(self, answered: Answered) -> list[float | None]:
        """Return the score of each answer, None where the reward has nothing to say.

        Raises:
            Unusable: the reference can't be read, whatever the answers are.
            UserError: the reward fails; the message shows the answer.
        """
