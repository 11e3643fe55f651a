"""What worker processes read of samples that are asked and not told: questions."""

import base64
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run
from spark_trainer.data.sample import Sample, Size, Unusable
from spark_trainer.families.kinds import exchanges, prompts, towers
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.families.kinds.vision_language import CANDIDATES, GREY_PX, Texts, grey, unknown
from spark_trainer.rollouts import learning
from spark_trainer.rollouts.base import Answer, Pictures, Question, Seen
from spark_trainer.rollouts.learning import Group

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

QUESTIONS = "questions"  # in a batch that is asked and not learnt


@dataclass(frozen=True)
class Questions(Texts):
    """Reads questions.

    Attributes:
        longest: tokens of an answer at most.
        shuffles: whether each question is asked about shuffled frames too.
        sends: whether a server is to see the frames.
    """

    family: ChatModel
    longest: int = field(kw_only=True)
    shuffles: bool = field(kw_only=True)
    sends: bool = field(kw_only=True)

    def read(self, number: int) -> Any:
        """See `Reader`.

        Raises:
            Unusable: the question leaves no room for an answer, or holds a control token.
        """
        sample = self.samples[number]
        made = question(self.family, self.loaded, sample, self.sends)
        asked = len(made.encoded.labels)
        if asked + self.longest > self.max_length:
            raise Unusable(
                f"video {sample.video}: prompt and images are {asked} tokens, which with "
                f"{self.longest} of train.rft.max_completion_length is more than train.max_length, "
                f"{self.max_length}"
            )
        told, shuffled = replace(sample, images=()), None
        if self.shuffles and len(sample.images) > 1:  # one frame has no order
            other = question(self.family, self.loaded, _shuffled(sample), self.sends)
            shuffled = replace(other, sample=told)
        return replace(made, sample=told, shuffled=shuffled, number=number)

    def prove(self) -> None:
        """See `Reader`: a grey picture would do for every sample."""
        self._grey_question(2, (GREY_PX, GREY_PX), "grey")

    def _grey_question(self, num_frames: int, size: Size, prompt: str) -> Question:
        """Return a question about grey frames."""
        sample = grey(num_frames, size, prompt=prompt, answer="grey")
        return question(self.family, self.loaded, sample, sends=False)

    def collated(self, read: list[Any]) -> list[Batch]:
        return [Batch({QUESTIONS: read}, len(read))]

    def ready(self, batch: Batch, device: "torch.device") -> Batch:
        return learning.ready(batch, device)

    def largest(self, run: Run) -> Batch:
        """See `Reader`: the longest answers to the longest question, asked of several videos."""
        import torch

        if len(self.samples):
            order = self.samples.lengths().argsort(kind="stable").tolist()[-CANDIDATES:]
            read = [one.made for number in order if (one := self._one(number, []))]
        else:
            read = [self._grey_question(*unknown(run))]
        question = max(read, key=lambda one: len(one.encoded.labels))
        with torch.no_grad():
            features = towers.features(self.loaded.model, question.encoded.vision)
        [end, *_] = exchanges.ends(self.loaded)
        longest = Answer((end,) * self.longest, (0.0,) * self.longest, ended=True)
        num = run.rft.num_generations
        groups = [
            Group(Seen(question, features), [longest] * num, [1.0] * num, flat=False)
            for _ in range(-(-run.batch_size // num))
        ]
        return learning.batches(self.family, self.loaded, run, groups)[0]


def question(family: ChatModel, loaded: Loaded, sample: Sample, sends: bool) -> Question:
    """Return a question, with its frames as files where a server is to see them.

    Raises:
        Unusable: it holds a control token.
    """
    encoded = family.question(loaded, sample)
    if not sends:
        return Question(sample, encoded)
    shown, as_video = family.adapted(sample), family.sees_video(loaded)
    sent = prompts.of_one_size(shown.images) if as_video else shown.images
    files = tuple(map(_png, sent))
    return Question(sample, encoded, pictures=Pictures(files, tuple(shown.times), as_video))


def _png(image: "Image") -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def _shuffled(sample: Sample) -> Sample:
    """Return a sample with its frames in random order, at the times of the others."""
    images = [*sample.images]
    random.Random(sample.seed).shuffle(images)  # noqa: S311
    return replace(sample, images=tuple(images))


def asked(batch: Batch) -> Sequence[Question]:
    """Return the questions of a batch."""
    questions: Sequence[Question] = batch.tensors[QUESTIONS]
    return questions
