"""Group relative policy optimisation (GRPO, Shao et al. 2024, arXiv:2402.03300), on videos.

The model answers each prompt of an update several times; rewards say how good the answers are; what
is better than the others to the same prompt becomes likelier. Its variants are settings of
`losses.policy`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spark_trainer import rewards
from spark_trainer.config import Run
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.data.sample import Sample
from spark_trainer.data.samples import Check
from spark_trainer.families.kinds import loading, towers
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.generated import Generated
from spark_trainer.families.kinds.reading import Reader, Splits
from spark_trainer.losses import advantages
from spark_trainer.methods import figures
from spark_trainer.methods.apart import Apart
from spark_trainer.methods.base import Method, Update
from spark_trainer.methods.rating import Rated, Rater
from spark_trainer.methods.reference import Start, without_adapters
from spark_trainer.methods.tally import Tally
from spark_trainer.methods.watch import Watch
from spark_trainer.metrics.objective import Objective
from spark_trainer.rewards.base import Given
from spark_trainer.rollouts import handover, in_process, learning, reading
from spark_trainer.rollouts.in_process import InProcess
from spark_trainer.rollouts.learning import LEARNT, Group, Learnt, Scorer
from spark_trainer.rollouts.reading import Questions, asked
from spark_trainer.rollouts.served import Served

if TYPE_CHECKING:
    import torch


@dataclass
class Held:
    """What a run holds beside the network.

    Attributes:
        rater: what lets the network answer and scores what it says; made with the readers.
        start: the weights of the start, where there are no adapters to switch off.
        batches: what is learnt until the next rollout.
        fresh: whether the network is still the one that gave the answers.
        began: when the update began to learn, in seconds of `time.perf_counter`.
        shown: some answers of the last rollout, for messages.
        apart: how far what is learnt is from what was drawn.
    """

    rater: Rater | None = None
    start: Start | None = None
    batches: list[Batch] = field(default_factory=list)
    fresh: bool = False
    began: float = 0.0
    shown: list[str] = field(default_factory=list)
    apart: Apart = field(default_factory=Apart)


@dataclass(frozen=True)
class GRPO(Method):
    """Learns what gets a higher reward than other answers to the same prompt."""

    model_types = ("rft",)
    objective = Objective("held_out_reward", "higher", "held-out reward")
    generates = True
    family: ChatModel
    held: Held = field(default_factory=Held)
    tally: Tally = field(default_factory=Tally)
    watch: Watch = field(default_factory=Watch)

    @classmethod
    def check(cls, run: Run, family: Kind) -> None:
        """See `Method`: a family that captions frames has no conversation to answer in."""
        if not isinstance(family, ChatModel):
            raise ValueError(
                f"train.model_name: {run.model_name} captions a frame, it is not asked in a chat; "
                "expected a model such as Qwen2-VL with model_type: rft"
            )

    @classmethod
    def reference_check(cls, run: Run) -> Check | None:
        """See `Method`: the rewards read references."""
        return rewards.of(Given(run.rft)).check

    @classmethod
    def check_services(cls, run: Run) -> None:
        """See `Method`: where a server draws."""
        if run.rft.vllm.server_url is not None:
            handover.check(run)

    @property
    def updates_per_read(self) -> int:
        return self.run.rft.num_iterations

    @property
    def keeps_start(self) -> bool:
        return bool(self.run.rft.beta) and self.run.finetune == "full"

    def generating_bytes(self, largest: Batch) -> int:
        return in_process.memory_bytes(self.loaded, self.run, largest.num_tokens)

    def begin(self, held: "Callable[[], list[torch.Tensor]]") -> None:
        if self.keeps_start:
            self.held.start = Start(held)

    def readers(
        self, splits: Splits, device: "torch.device", kept: EncodedFiles
    ) -> tuple[Reader, Reader]:
        """See `Method`; the rewards are made for the references of the training split."""
        training, _ = splits
        made = rewards.of(Given(self.run.rft, training.answers))
        kind = Served if self._served else InProcess
        rollout = kind(self.family, self.loaded, self.run)
        self.watch.limit = self.run.rft.vllm.max_logp_difference if self._served else None
        told = self.family, self.loaded, self.run.max_length, self.run.packing
        longest = self.run.rft.max_completion_length
        shuffles, sends = made.need_shuffled, self._served
        one, other = (
            Questions(split, *told, longest=longest, shuffles=shuffles, sends=sends)
            for split in splits
        )
        self.held.rater = Rater(self.run, self.loaded, made, rollout, one)
        return one, other

    def prepare(self, model: Any, update: Update) -> list[Batch]:
        """Draw, score and weigh answers, or go on with those of the last rollout."""
        import torch

        if update.read:
            began = time.perf_counter()
            model.eval()
            with torch.no_grad(), self._autocast():
                with update.gathered():
                    rated = self._rater.rated(model, update)
                    self._count(rated, time.perf_counter() - began, model.device)
                    batches = self._batches(model, rated, update)
                self.held.batches = self._with_reference(model, batches, update)
            model.train()
        self.held.fresh = bool(update.read)
        self.held.began = time.perf_counter()
        return self.held.batches

    def loss(self, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the weighted sum of the tokens' losses."""
        log_T, entropy_T = self._scorer.log_probabilities(model, batch)
        learnt: Learnt = batch.tensors[LEARNT]
        found = learning.policy(self.run).losses(log_T, learnt.tokens)
        told = {
            figures.ENTROPY: entropy_T,
            figures.CLIPPED_LOW: found.low_T,
            figures.CLIPPED_HIGH: found.high_T,
        }
        if self.run.rft.beta:
            told[figures.KL] = found.kl_T
        if self.held.fresh and batch.num_targets:
            self.held.apart.see(log_T - learnt.drawn_T)
        if self._served:
            told[figures.IMPORTANCE] = found.importance_T
        if batch.num_targets:
            counts_T = learnt.tokens.weights_T != 0
            for name, values_T in told.items():
                self.tally.add(name, values_T, counts_T)
            self.tally.add_all("learning_tokens", [len(learnt.ids_T)], log_T.device)
        return found.total

    def held_out(self, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the rewards of greedy answers; 0 is that of one where none applies."""
        import torch

        with self._autocast():
            found = self._rater.greedy(model, asked(batch))
        return torch.tensor(sum(one.scored.rewards[0] or 0.0 for one in found))

    def show(self, model: Any, samples: Iterable[Sample]) -> Iterator[Generated]:
        """Yield the answers to held-out questions, with what rewards say of them."""
        import torch

        for sample in samples:
            question = reading.question(self.family, self.loaded, sample, self._served)
            with torch.no_grad(), self._autocast():
                shown = self._rater.shown(model, sample, question)
            yield shown  # who takes it has gradients

    def learnt(self) -> Iterator[Generated]:
        return self._rater.learnt()

    def metrics(self, update: Update) -> dict[str, float]:
        """Return rewards, lengths, entropy and speed; see `Method`.

        Raises:
            NothingRewardedError: no answer got any reward for many updates.
        """
        device = self.loaded.model.device
        self.tally.add_all("learning_s", [time.perf_counter() - self.held.began], device)
        found = self.tally.take(figures.every(self._rater.rewards.names), update.over_all, device)
        values = figures.values(found, self._rater.rewards.names)
        if self.held.fresh:
            values |= self.held.apart.take(update, device)
        self.watch.see(values, self.held.shown)
        return values

    def remembered(self) -> dict[str, float]:
        return self.watch.remembered()

    def recall(self, values: dict[str, float]) -> None:
        self.watch.recall(values)

    def _autocast(self) -> AbstractContextManager[None]:
        """Enter the run's precision, where the tower is called by itself."""
        import torch

        dtype = loading.dtype(self.run)
        return torch.autocast(self.loaded.model.device.type, dtype, enabled=bool(dtype))

    @property
    def _served(self) -> bool:
        """Tell whether a server draws the answers."""
        return self.run.rft.vllm.server_url is not None

    @property
    def _rater(self) -> Rater:
        assert self.held.rater is not None
        return self.held.rater

    @cached_property
    def _scorer(self) -> Scorer:
        learns = towers.learns(self.family, self.loaded.model)
        return Scorer(self.family, self.loaded, self.run, learns)

    def _count(self, rated: Sequence[Rated], took: float, device: "torch.device") -> None:
        """Count what is recorded of a rollout, and keep some of its answers for messages."""
        first = rated[0]
        wanted = f"(reference: {first.seen.question.sample.answer!r})"
        self.held.shown = [f"{self._rater.text(one)!r} {wanted}" for one in first.answers]
        told = figures.of_rollout(rated, took, self._rater.rewards.names)
        for name, values in told.items():
            self.tally.add_all(name, [value for value in values if value is not None], device)

    def _batches(self, model: Any, rated: Sequence[Rated], update: Update) -> list[Batch]:
        """Return what is learnt of the groups, with what the network says of it before."""
        scale, spread = self.run.rft.scale_rewards, self._spread(rated, update, model.device)
        groups = [
            Group(
                one.seen.kept(self._scorer.tower_learns),
                one.answers,
                advantages.advantages(one.scored.rewards, scale, spread),
                one.flat,
            )
            for one in rated
        ]
        self._rater.keep(rated, [group.advantages for group in groups])
        made = learning.batches(self.family, self.loaded, self.run, groups)
        there = [learning.ready(batch, model.device) for batch in made]
        if self.run.rft.num_iterations == 1:
            return there  # what it says as it learns is what it said before
        return [
            learning.told(one, old_T=self._scorer.log_probabilities(model, one)[0]) for one in there
        ]

    def _with_reference(self, model: Any, batches: list[Batch], update: Update) -> list[Batch]:
        """Return batches with what the network of the start says of them."""
        if not self.run.rft.beta:
            return batches
        start = self.held.start
        with start.in_place() if start else without_adapters(model), update.gathered():
            found = [self._scorer.log_probabilities(model, batch)[0] for batch in batches]
        each = zip(batches, found, strict=True)
        return [learning.told(batch, reference_T=log_T) for batch, log_T in each]

    def _spread(self, rated: Sequence[Rated], update: Update, device: "torch.device") -> float:
        """Return the standard deviation of all rewards of an update, over all processes."""
        import torch

        known = [x for one in rated for x in one.scored.rewards if x is not None]
        sums = [len(known), sum(known), sum(one * one for one in known)]
        num, total, squares = update.over_all(
            torch.tensor(sums, dtype=torch.float64, device=device)
        ).tolist()
        return advantages.spread(num, total, squares)
