"""Answers to the prompts of an update, and what the rewards say of them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from spark_trainer.config import Run
from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds import towers
from spark_trainer.families.kinds.answers import GeneratedAnswers, LearntAnswers, ScoredAnswer
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.families.kinds.reading import Reader
from spark_trainer.families.kinds.vision_language import decoded
from spark_trainer.losses import advantages
from spark_trainer.methods.base import Update
from spark_trainer.rewards.base import Answered
from spark_trainer.rewards.combined import Rewards, Scored
from spark_trainer.rollouts.base import Answer, Question, Rollout, Seen
from spark_trainer.rollouts.reading import asked
from spark_trainer.system import log

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Rated:
    """Answers to a question, and what the rewards say of them."""

    seen: Seen
    answers: list[Answer]
    scored: Scored

    @property
    def flat(self) -> bool:
        """Tell whether nothing can be learnt of them."""
        return advantages.is_flat(self.scored.rewards)


@dataclass(frozen=True)
class Rater:
    """Lets a network answer, and scores what it says.

    Attributes:
        run: the settings.
        loaded: the model and its processor.
        rewards: score answers.
        rollout: draws answers.
        training: reads the samples that are learnt from.
        kept: a few groups of the last update, each with the number of its sample.
    """

    run: Run
    loaded: Loaded
    rewards: Rewards
    rollout: Rollout
    training: Reader
    kept: list[tuple[int, LearntAnswers]] = field(default_factory=list)

    def rated(self, model: Any, update: Update) -> list[Rated]:
        """Return this process's groups, flat ones replaced where `dynamic_sampling` asks for it."""
        questions = [question for batch in update.batches for question in asked(batch)]
        rated = self._drawn(model, questions, update)
        if self.run.rft.dynamic_sampling:
            self._replace_flat(model, rated, update)
        return rated

    def greedy(self, model: Any, questions: Sequence[Question]) -> list[Rated]:
        """Return the likeliest answer to each question."""
        seen = [self._seen(model, question) for question in questions]
        each = zip(seen, self.rollout.greedy(model, seen), strict=True)
        return [Rated(one, [said], self._scored(one, [said])) for one, said in each]

    def shown(self, model: Any, sample: Sample, question: Question) -> GeneratedAnswers:
        """Return the likeliest answer and a group of others, the same numbers drawn each time."""
        seen = self._seen(model, question)
        [said], numbers = self.rollout.greedy(model, [seen]), range(self.run.rft.num_generations)
        [drawn] = self.rollout.draw(model, [seen], 0, numbers)
        first, group = self._scored(seen, [said]), self._scored(seen, drawn)
        known = [reward for reward in group.rewards if reward is not None]
        spread = advantages.spread(len(known), sum(known), sum(one * one for one in known))
        found = advantages.advantages(group.rewards, self.run.rft.scale_rewards, spread)
        texts = list(map(self.text, drawn))
        [likeliest] = _each([self.text(said)], first, [None])
        return GeneratedAnswers(
            video=sample.video,
            caption=sample.answer,
            generated=likeliest.text,
            prompt=sample.prompt or "",
            images=sample.images,
            times=sample.times,
            likeliest=likeliest,
            drawn=_each(texts, group, found),
        )

    def keep(self, rated: Sequence[Rated], found: Sequence[Sequence[float]]) -> None:
        """Keep a few groups with the advantages of their answers, for people to look at."""
        self.kept[:] = [
            (one.seen.question.number, self._learnt(one, each))
            for one, each in list(zip(rated, found, strict=True))[: self.run.num_samples]
        ]

    def learnt(self) -> Iterator[LearntAnswers]:
        """Yield what was kept; the frames are read again."""
        for number, one in self.kept:
            sample = self.training.sample(number)
            yield replace(one, images=sample.images, times=sample.times) if sample else one

    def text(self, answer: Answer) -> str:
        """Return an answer without control tokens."""
        import torch

        [text] = decoded(self.loaded, torch.tensor([answer.ids]))
        return text

    def _learnt(self, rated: Rated, found: Sequence[float]) -> LearntAnswers:
        sample = rated.seen.question.sample
        return LearntAnswers(
            video=sample.video,
            caption=sample.answer,
            prompt=sample.prompt or "",
            images=(),
            times=(),
            drawn=_each(list(map(self.text, rated.answers)), rated.scored, found),
        )

    def _seen(self, model: Any, question: Question) -> Seen:
        return Seen(question, towers.features(model, question.encoded.vision))

    def _drawn(self, model: Any, questions: Sequence[Question], update: Update) -> list[Rated]:
        """Return answers to each question, scored beside those over shuffled frames if needed."""
        if not questions:
            return []
        num = self.run.rft.num_generations
        seen, said = self._said(model, questions, update, range(num))
        beside: list[Answered | None] = [None] * len(seen)
        asks = {place: one.shuffled for place, one in enumerate(questions) if one.shuffled}
        if asks:
            others = self._said(model, [*asks.values()], update, range(num, num + num // 2))
            for place, other in zip(asks, map(self._answered, *others), strict=True):
                beside[place] = other
        each = zip(seen, said, beside, strict=True)
        return [Rated(one, answers, self._scored(one, answers, x)) for one, answers, x in each]

    def _said(
        self, model: Any, questions: Sequence[Question], update: Update, numbers: range
    ) -> tuple[list[Seen], list[list[Answer]]]:
        seen = [self._seen(model, question) for question in questions]
        return seen, self.rollout.draw(model, seen, update.number, numbers)

    def _scored(
        self, seen: Seen, answers: Sequence[Answer], shuffled: Answered | None = None
    ) -> Scored:
        return self.rewards.scored(replace(self._answered(seen, answers), shuffled=shuffled))

    def _answered(self, seen: Seen, answers: Sequence[Answer]) -> Answered:
        sample = seen.question.sample
        return Answered(
            video=sample.video,
            prompt=sample.prompt or "",
            reference=sample.answer,
            answers=tuple(map(self.text, answers)),
            token_ids=tuple(answer.ids for answer in answers),
            meta=sample.meta,
            max_length=self.run.rft.max_completion_length,
        )

    def _replace_flat(self, model: Any, rated: list[Rated], update: Update) -> None:
        """Put other prompts in the place of flat groups, as long as some are found.

        The same ones whatever the number of processes: the flat groups of all take the next samples
        of one order, which the seed and the update decide.
        """
        order, used = self._further(model.device, update), 0
        for _ in range(self.run.rft.max_resample_times):
            flat = [place for place, one in enumerate(rated) if one.flat]
            counts = self._counts(model.device, len(flat), update)
            mine = used + sum(counts[: update.process])
            used += sum(counts)
            numbers = order[mine : mine + len(flat)]
            read = [update.reader.without_replacement([number]) for number in numbers]
            for reason in (reason for each in read for reason in each.reasons):
                log.logger.warning("skipped a sample: %s", reason)
            questions = [one for each in read for batch in each.batches for one in asked(batch)]
            found = [one for one in self._drawn(model, questions, update) if not one.flat]
            for place, one in zip(flat, found, strict=False):
                rated[place] = one

    def _further(self, device: "torch.device", update: Update) -> list[int]:
        """Return samples beyond those of an update, in the order in which they take their place."""
        total, size = len(update.reader.samples), self.run.samples_per_update
        most = self.run.rft.max_resample_times * size
        draw = random.Random(f"{self.run.seed}:{update.number}")  # noqa: S311
        order = draw.sample(range(total), min(total, most + size))
        taken = self._taken(device, update)
        return [number for number in order if number not in taken][:most]

    def _taken(self, device: "torch.device", update: Update) -> set[int]:
        """Return the samples of an update, over all processes, as they count in an epoch."""
        import torch

        total = len(update.reader.samples)
        own = [one.number % total for batch in update.batches for one in asked(batch)]
        places = torch.zeros(self.run.samples_per_update, dtype=torch.int64, device=device)
        first = update.process * (len(places) // update.processes)
        numbers = torch.tensor(own, dtype=torch.int64, device=device) + 1  # 0 is no sample
        places[first : first + len(own)] = numbers
        return {number - 1 for number in update.over_all(places).tolist()}

    def _counts(self, device: "torch.device", own: int, update: Update) -> list[int]:
        """Return how many flat groups each process has."""
        import torch

        counts = torch.zeros(update.processes, dtype=torch.int64, device=device)
        counts[update.process] = own
        found: list[int] = update.over_all(counts).tolist()
        return found


def _each(
    texts: Sequence[str], scored: Scored, found: Sequence[float | None]
) -> list[ScoredAnswer]:
    """Return answers with what they got, and their advantages."""
    return [
        ScoredAnswer(
            text,
            scored.rewards[place],
            {name: scores[place] for name, scores in scored.parts.items()},
            found[place],
        )
        for place, text in enumerate(texts)
    ]
