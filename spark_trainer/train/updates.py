"""One update of the weights after the other: its samples, its loss, and what is measured of it."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.reading import Reader, ReadResult
from spark_trainer.methods.base import Method, Update
from spark_trainer.system import log
from spark_trainer.train import flops
from spark_trainer.train.progress import Progress
from spark_trainer.train.setup import TrainingError
from spark_trainer.train.strategies.base import Strategy
from spark_trainer.train.tracking import peak_memory_gb

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel

MAX_BAD_LOSSES = 3  # updates in a row whose loss is no number
MAX_LEFT_OUT = 40  # updates in a row by fp16, whose scaler begins at 2^16 and halves at each


@dataclass
class Updates:
    """Makes the updates of one process; all processes make theirs together."""

    strategy: Strategy
    method: Method
    reader: Reader
    model: Any  # as the strategy has prepared it
    weights: list[torch.Tensor]  # that learn
    schedule: torch.optim.lr_scheduler.LRScheduler
    average: "EMAModel | None"
    progress: Progress
    stopping: Callable[[], int]  # whether this process was asked to stop
    bad_losses: int = 0  # in a row
    left_out: int = 0  # updates in a row
    last_reason: str = ""  # why a sample was skipped
    meter: flops.Meter = field(default_factory=flops.Meter)

    def __post_init__(self) -> None:
        self.run, self.accelerator = self.strategy.run, self.strategy.accelerator
        self.network = self.accelerator.unwrap_model(self.model)  # which looks at each module
        self.method.recall(self.progress.remembered)
        self.peak_tflops = flops.peak_tflops(self.accelerator.device, self.run.peak_tflops)

    def make(
        self, step: int, reading: Iterator[ReadResult], num_calls: int
    ) -> tuple[dict[str, float], bool]:
        """Make one update, its loss the mean over the targets of all batches and processes.

        Args:
            step: its number, from 1.
            reading: this process's samples.
            num_calls: how often it asks for some, where the method doesn't go on with what it has.

        Returns:
            what is to be recorded, and whether a process was asked to stop.

        Raises:
            TrainingError: too many samples can't be used, or the loss is no number again and again.
        """
        began = time.perf_counter()
        due = (step - 1) % self.method.updates_per_read == 0
        read = [next(reading) for _ in range(num_calls)] if due else []
        waited = time.perf_counter() - began
        for result in read:
            self._name(result)
        with self.strategy.autocast():
            update = self._told(step, read)
            batches = self.method.prepare(self.network, update)
        targets, tokens, stopping = self._totals(read, batches)
        total = self._backward(batches, targets)
        rate = float(self.schedule.get_last_lr()[0])  # before it moves on to the next update's
        moved = self._move(step)
        needed = torch.tensor(self.meter.take(), device=self.accelerator.device)
        total, needed = self.accelerator.reduce(torch.stack([total, needed]))
        mean = float(total / targets)
        self._check(step, mean)
        took = time.perf_counter() - began
        values = {"loss": mean, "learning_rate": rate} | moved
        values |= self.method.metrics(update)
        self.progress.remembered = self.method.remembered()
        return values | self._speed(float(needed), float(tokens), waited, took), stopping

    def _told(self, step: int, read: list[ReadResult]) -> Update:
        """Return what the method is told of an update."""
        one, accelerator = self.reader, self.accelerator
        place = accelerator.process_index, accelerator.num_processes
        return Update(step, read, one, *place, accelerator.reduce, self.strategy.gathered)

    def _backward(self, batches: list[Batch], targets: torch.Tensor) -> torch.Tensor:
        """Add the gradients of all batches; returns the sum of their losses."""
        total = torch.zeros((), device=self.accelerator.device)
        rounds = self.strategy.num_passes(len(batches))
        for number in range(1, rounds + 1):
            # Where processes keep in step, one with fewer batches repeats its last one for nothing.
            batch = batches[min(number, len(batches)) - 1]
            used, last = number <= len(batches), number == rounds
            total += self._pass(batch, targets, used, last)
        return total

    def _pass(self, batch: Batch, targets: torch.Tensor, used: bool, last: bool) -> torch.Tensor:
        """Go forward and backward over a batch, whose loss counts if it is `used`; returns it."""
        ready = self.reader.ready(batch, self.accelerator.device)
        if not used:
            ready = ready._replace(num_targets=0)
        counted = self.peak_tflops and used
        with (
            self.strategy.accumulate(last),
            self.meter.over(ready) if counted else contextlib.nullcontext(),
        ):
            with self.strategy.autocast():
                loss = self.method.loss(self.model, ready) * used
            # Gradients are averaged over processes, so their number cancels here.
            self.strategy.backward(loss * self.accelerator.num_processes / targets, last)
        return loss.detach()

    def _move(self, step: int) -> dict[str, float]:
        """Update the weights, the schedule and the average.

        Returns:
            The norm of the gradients, and `overflowed`: 1 where they went beyond fp16, as at the
            start of most runs. Then nothing moves, and the loss is scaled by half from now on.

        Raises:
            TrainingError: they do, however little the loss is scaled.
        """
        norm, moved = self.strategy.step(self.weights)
        self.left_out = 0 if moved else self.left_out + 1
        if self.left_out >= MAX_LEFT_OUT:
            raise TrainingError(
                f"the gradients went beyond fp16 for {MAX_LEFT_OUT} updates up to {step}, however "
                "little the loss was scaled; expected train.mixed_precision: bf16 or no"
            )
        if not moved:
            log.logger.warning("update %d changed nothing: its gradients went beyond fp16", step)
            return {"grad_norm": norm, "overflowed": 1.0}
        self.schedule.step()
        if self.average:
            self.average.step(self.weights)
        return {"grad_norm": norm}

    def _speed(self, needed: float, tokens: float, waited: float, took: float) -> dict[str, float]:
        values = {
            "samples_per_s": self.run.samples_per_update / took,
            **({"tokens_per_s": tokens / took} if tokens else {}),
            "data_wait_share": waited / took,
            "memory_gb": peak_memory_gb(),
        }
        if self.peak_tflops:
            peak = self.peak_tflops * 1e12 * self.accelerator.num_processes
            values["mfu"] = needed / took / peak
        return values

    def _name(self, result: ReadResult) -> None:
        """Name the samples of a call that could not be used; stop where none could."""
        for reason in result.reasons:
            log.logger.warning("skipped a sample: %s", reason)
            self.last_reason = reason
        if not result.batches:
            raise TrainingError(f"no sample near could be used either: {self.last_reason}")

    def _totals(
        self, read: list[ReadResult], batches: list[Batch]
    ) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Return targets of the loss and tokens, over all processes; limits what was skipped.

        And whether one of them was asked to stop: all must leave off at the same update.
        """
        own = [
            sum(batch.num_targets for batch in batches),
            sum(batch.num_tokens for batch in batches),
            sum(len(result.reasons) for result in read),
            sum(result.cut for result in read),
            self.stopping(),
        ]
        totals = self.accelerator.reduce(torch.tensor(own, device=self.accelerator.device))
        skipped, cut, stopping = totals[2:].tolist()
        self.progress.seen += self.run.samples_per_update if read else 0
        self.progress.skipped += skipped
        self.progress.cut += cut
        self._limit()
        # A method may find nothing to learn in an update, whose loss is then 0.
        return totals[0].clamp(min=1), totals[1], bool(stopping)

    def _limit(self) -> None:
        """Stop where too many samples could not be used."""
        skipped, seen = self.progress.skipped, self.progress.seen
        if skipped > self.run.max_skipped * max(seen, len(self.reader.samples)):
            raise TrainingError(
                f"{skipped} of {seen} samples could not be used, more than "
                f"train.max_skipped = {self.run.max_skipped:g} allows; the last: {self.last_reason}"
            )

    def _check(self, step: int, loss: float) -> None:
        self.bad_losses = 0 if math.isfinite(loss) else self.bad_losses + 1
        if self.bad_losses >= MAX_BAD_LOSSES:
            raise TrainingError(f"the loss was no number for {MAX_BAD_LOSSES} steps up to {step}")
