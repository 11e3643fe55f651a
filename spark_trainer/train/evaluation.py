"""What a model in training is measured by: its objective, and what it makes of a few samples."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.generated import Generated
from spark_trainer.families.kinds.reading import Reader
from spark_trainer.methods.base import Method
from spark_trainer.metrics.score import FORGETTING
from spark_trainer.system import log
from spark_trainer.train import data
from spark_trainer.train.setup import TrainingError
from spark_trainer.train.strategies.base import Strategy
from spark_trainer.train.tracking import Tracker

Stopping = Callable[[], int]  # whether this process was asked to stop


@torch.no_grad()  # inference mode would mark gathered weights, which then can't be trained
def held_out(
    strategy: Strategy, method: Method, model: Any, reader: Reader, stopping: Stopping
) -> dict[str, float] | None:
    """Return the mean objective over the validation part, all processes together.

    A loss is the mean over every token in nats, or over every clip: chance then draws the same for
    a clip in every run, and no condition is left out.

    Samples that can't be used are named in the log and counted beside it.

    Unwrapped, because a process without a held-out batch would leave the others waiting.

    Returns:
        what was measured, by name; None if a process was asked to stop.

    Raises:
        TrainingError: no sample can be used.
    """
    accelerator = strategy.accelerator
    model = accelerator.unwrap_model(model).eval()
    sums = torch.zeros(4, dtype=torch.float64, device=accelerator.device)
    reasons: list[str] = []

    def own(reading: data.Ahead) -> Iterator[Batch]:
        for read in reading:
            if stopping():
                sums[3] = 1
                return
            for reason in read.reasons:
                log.logger.warning("left out of validation: %s", reason)
            sums[2] += len(read.reasons)
            reasons.extend(read.reasons[:1])
            yield from read.batches

    with data.held_out(reader, strategy.run, accelerator) as reading:
        for batch, counts in strategy.padded_batches(own(reading), lambda: _spare(reader)):
            ready = reader.ready(batch, accelerator.device)
            with strategy.autocast():
                value = method.held_out(model, ready)
            if counts:
                sums[0] += value.double()
                sums[1] += batch.num_targets
    total, targets, skipped, stopped = accelerator.reduce(sums).tolist()
    if stopped:
        return None
    if not targets:
        raise _unusable(reasons or ["the log of another process says why"])
    measured = {method.objective.metric: total / targets}
    return measured | ({"held_out_skipped": skipped} if skipped else {})


def _unusable(reasons: list[str]) -> TrainingError:
    return TrainingError(f"no held-out sample can be used: {reasons[0]}")


def _spare(reader: Reader) -> Batch:
    """Return a held-out batch to take part with, where a process has none left of its own.

    Raises:
        TrainingError: no sample can be used.
    """
    read = reader[[0]]
    if not read.batches:
        raise _unusable(read.reasons)
    return read.batches[0]


def show(
    strategy: Strategy,
    method: Method,
    model: Any,
    readers: Sequence[Reader],
    tracker: Tracker | None,
    step: int,
    stopping: Stopping,
) -> dict[str, float]:
    """Show what is made of the first `num_samples` videos of each reader; returns scores of it.

    The first reader has the held-out videos; the scores of another tell what is forgotten.

    All processes must call it. Where weights are sharded all make each sample together, else they
    take turns, and leave off where they are asked to stop. The one with a tracker records it.
    """
    model.eval()
    counts = [0] * len(readers)

    def counted() -> Iterator[Generated]:
        for place, reader in enumerate(readers):
            for one in _made(strategy, method, model, reader, stopping):
                counts[place] += 1
                yield one

    if tracker is None:
        deque(counted(), maxlen=0)
        return {}
    records = tracker.samples(step, counted(), method.learnt())
    if stopping():
        return {}
    beside = method.scores(records[counts[0] :]) if len(readers) > 1 else {}
    forgotten = {f"{FORGETTING}{name}": value for name, value in beside.items()}
    return method.scores(records[: counts[0]]) | forgotten


def _made(
    strategy: Strategy, method: Method, model: Any, reader: Reader, stopping: Stopping
) -> Iterator[Generated]:
    """Yield what is made of the first videos of a reader."""
    numbers = reader.samples.shown(method.run.num_samples)

    def made(some: Sequence[int]) -> Iterator[Generated]:
        # Those that take part together can't leave off one by one.
        alone = (lambda: 0) if strategy.shards_weights else stopping
        return method.show(model, _usable(reader, some, alone))

    return made(numbers) if strategy.shards_weights else _in_turn(strategy, numbers, made)


def _in_turn(
    strategy: Strategy, numbers: Sequence[int], made: Callable[[Sequence[int]], Iterator[Generated]]
) -> Iterator[Generated]:
    """Yield in every process what all have made, in the order of the numbers.

    The main process alone would let the others wait: four videos of Wan2.2-Animate, at seven
    minutes on an H100, nearly as long as NCCL waits by default.
    """
    rank, world = strategy.accelerator.process_index, strategy.accelerator.num_processes
    if world == 1:
        yield from made(numbers)
        return
    mine = [list(made([number])) for number in numbers[rank::world]]
    for place in range(len(numbers)):
        turn = place % world
        found = [mine[place // world] if turn == rank else None]
        torch.distributed.broadcast_object_list(found, src=turn)
        yield from found[0] or ()


def _usable(reader: Reader, numbers: Sequence[int], stopping: Stopping) -> Iterator[Any]:
    for number in numbers:
        if stopping():
            return
        sample = reader.sample(number)
        if sample is not None:  # else it is counted and named with the objective
            yield sample
