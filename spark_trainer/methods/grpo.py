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
from spark_trainer.methods.base import Method, Update
from spark_trainer.methods.rating import Rated, Rater
from spark_trainer.methods.reference import Start, without_adapters
from spark_trainer.methods.tally import Tally
from spark_trainer.methods.watch import Watch
from spark_trainer.metrics.objective import Objective
from spark_trainer.rewards.base import Given
from spark_trainer.rollouts import in_process, learning
from spark_trainer.rollouts.base import Question
from spark_trainer.rollouts.in_process import InProcess
from spark_trainer.rollouts.learning import LEARNT, Group, Learnt, Scorer
from spark_trainer.rollouts.reading import Questions, asked

if TYPE_CHECKING:
    import torch

# Names in the metrics: of each update, and of its rollout if it begins with one.
ENTROPY, KL = "entropy", "kl"
CLIPPED_LOW, CLIPPED_HIGH = "clip_ratio/low_mean", "clip_ratio/high_mean"
LENGTH, CUT = "completions/mean_length", "completions/clipped_ratio"
REWARD, FLAT = "reward", "frac_reward_zero_std"
# How far the probabilities that are learnt are from those that were drawn by.
DIFFERENCE = "sampling/logp_difference"
MEANS = (ENTROPY, KL, CLIPPED_LOW, CLIPPED_HIGH, LENGTH, CUT, REWARD, FLAT, DIFFERENCE)
# Of tokens, and of the seconds that they took.
SPEEDS = {
    "rollout_tokens_per_s": ("rollout_tokens", "rollout_s"),
    "learning_tokens_per_s": ("learning_tokens", "learning_s"),
}


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
    """

    rater: Rater | None = None
    start: Start | None = None
    batches: list[Batch] = field(default_factory=list)
    fresh: bool = False
    began: float = 0.0
    shown: list[str] = field(default_factory=list)


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
        rollout = InProcess(self.family, self.loaded, self.run)
        self.held.rater = Rater(self.run, self.loaded, made, rollout)
        told = self.family, self.loaded, self.run.max_length, self.run.packing
        longest = self.run.rft.max_completion_length
        one, other = (
            Questions(split, *told, longest=longest, shuffles=made.need_shuffled)
            for split in splits
        )
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
        told = {ENTROPY: entropy_T, CLIPPED_LOW: found.low_T, CLIPPED_HIGH: found.high_T}
        if self.run.rft.beta:
            told[KL] = found.kl_T
        if self.held.fresh:
            told[DIFFERENCE] = (log_T - learnt.drawn_T).abs()
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
            question = Question(sample, self.family.question(self.loaded, sample))
            with torch.no_grad(), self._autocast():
                shown = self._rater.shown(model, sample, question)
            yield shown  # who takes it has gradients

    def metrics(self, update: Update) -> dict[str, float]:
        """Return rewards, lengths, entropy and speed; see `Method`.

        Raises:
            NothingRewardedError: no answer got any reward for many updates.
        """
        device = self.loaded.model.device
        self.tally.add_all("learning_s", [time.perf_counter() - self.held.began], device)
        parts = [f"rewards/{name}" for name in self._rater.rewards.names]
        speeds = [name for both in SPEEDS.values() for name in both]
        found = self.tally.take([*MEANS, *parts, *speeds], update.over_all, device)
        values = {name: found[name].mean for name in MEANS if name in found}
        if REWARD in found:
            values["reward_std"] = found[REWARD].std
        for name in (name for name in parts if name in found):
            values |= {f"{name}/mean": found[name].mean, f"{name}/std": found[name].std}
        for name, (tokens, seconds) in SPEEDS.items():
            if tokens in found and seconds in found:
                # The seconds are the mean of the processes, which work side by side.
                values[name] = found[tokens].mean * found[tokens].count / found[seconds].mean
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
    def _rater(self) -> Rater:
        assert self.held.rater is not None
        return self.held.rater

    @cached_property
    def _scorer(self) -> Scorer:
        learns = towers.learns(self.family, self.loaded.model)
        return Scorer(self.family, self.loaded, self.run, learns)

    def _count(self, rated: Sequence[Rated], took: float, device: "torch.device") -> None:
        """Count what is recorded of a rollout, and keep some of its answers for messages."""
        said = [answer for one in rated for answer in one.answers]
        first = rated[0]
        wanted = f"(reference: {first.seen.question.sample.answer!r})"
        self.held.shown = [f"{self._rater.text(one)!r} {wanted}" for one in first.answers]
        lengths = [float(len(one.ids)) for one in said]
        told: dict[str, list[float | None]] = {
            LENGTH: [*lengths],
            CUT: [float(not one.ended) for one in said],
            FLAT: [float(one.flat) for one in rated],
            REWARD: [reward for one in rated for reward in one.scored.rewards],
            "rollout_tokens": [sum(lengths)],
            "rollout_s": [took],
        }
        for name in self._rater.rewards.names:
            told[f"rewards/{name}"] = [x for one in rated for x in one.scored.parts[name]]
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
