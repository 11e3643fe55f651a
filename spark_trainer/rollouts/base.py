"""What is asked, and what a rollout gives."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds import towers
from spark_trainer.families.kinds.batch import Encoded

if TYPE_CHECKING:
    import torch


class Pictures(NamedTuple):
    """The frames that a question shows.

    Attributes:
        files: PNG files in base64.
        times: seconds from the video's start.
        as_video: whether they go in as a video; else as images.
    """

    files: tuple[str, ...]
    times: tuple[float, ...]
    as_video: bool


@dataclass(frozen=True)
class Question:
    """A prompt about a video.

    Attributes:
        sample: its texts and what the manifest says, without its frames.
        encoded: its tokens and frames as tensors; nothing of it is learnt.
        shuffled: the same over the frames in random order, where a reward compares with that.
        number: of the sample in its split.
        pictures: its frames as files, where a server is to see them.
    """

    sample: Sample
    encoded: Encoded
    shuffled: "Question | None" = None
    number: int = 0
    pictures: "Pictures | None" = None


@dataclass(frozen=True)
class Seen:
    """A question after the vision tower has seen its frames, once for all answers.

    Attributes:
        question: the question.
        features: what the tower and the projector made of the frames, by the names of `towers`.
    """

    question: Question
    features: "Mapping[str, torch.Tensor]"

    def kept(self, again: bool) -> "Seen":
        """Return what is needed later: frames that the tower will see again, or what it made."""
        import torch

        if again:
            shapes = {n: torch.empty_like(v, device="meta") for n, v in self.features.items()}
            return Seen(self.question, shapes)
        encoded = self.question.encoded
        vision = {n: v for n, v in encoded.vision.items() if n not in towers.PIXELS.values()}
        left = replace(encoded, vision=vision)
        asked = replace(self.question, encoded=left, shuffled=None, pictures=None)
        return Seen(asked, self.features)


class Answer(NamedTuple):
    """What a model said to a question.

    Attributes:
        ids: its tokens, its end among them.
        log_probabilities: of these tokens as they were drawn.
        ended: whether it came to its end; else it was cut.
    """

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    ended: bool


class Rollout(ABC):
    """Answers questions by the weights of the moment."""

    @abstractmethod
    def draw(
        self, model: Any, seen: Sequence[Seen], update: int, numbers: range
    ) -> list[list[Answer]]:
        """Return several answers to each question, drawn as the model rates them.

        They are the same whatever else is asked beside them.

        Args:
            model: the network in training, unwrapped, in evaluation mode.
            seen: the questions.
            update: the number of the update, from 1.
            numbers: of the answers to a question, which tell them apart.
        """

    @abstractmethod
    def greedy(self, model: Any, seen: Sequence[Seen]) -> list[Answer]:
        """Return to each question the answer of the likeliest tokens."""
