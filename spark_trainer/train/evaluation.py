"""What a model in training is measured by: its objective, and what it makes of a few samples."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch

from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.reading import Reader
from spark_trainer.methods.base import Method
from spark_trainer.system import log
from spark_trainer.train import data
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
    """
    accelerator = strategy.accelerator
    model = accelerator.unwrap_model(model).eval()
    sums = torch.zeros(4, dtype=torch.float64, device=accelerator.device)

    def own() -> Iterator[Batch]:
        rank, world = accelerator.process_index, accelerator.num_processes
        for read in data.held_out(reader, strategy.run.batch_size, rank, world):
            if stopping():
                sums[3] = 1
                return
            for reason in read.reasons:
                log.logger.warning("left out of validation: %s", reason)
            sums[2] += len(read.reasons)
            yield from read.batches

    for batch, counts in strategy.padded_batches(own(), lambda: reader[[0]].batches[0]):
        ready = reader.ready(batch, accelerator.device)
        with strategy.autocast():
            value = method.held_out(model, ready)
        if counts:
            sums[0] += value.double()
            sums[1] += batch.num_targets
    total, targets, skipped, stopped = accelerator.reduce(sums).tolist()
    if stopped:
        return None
    mean = total / targets if targets else float("nan")
    return {method.objective.metric: mean} | ({"held_out_skipped": skipped} if skipped else {})


def show(
    method: Method,
    model: Any,
    reader: Reader,
    tracker: Tracker | None,
    step: int,
    stopping: Stopping,
) -> dict[str, float]:
    """Show what is made of the first `num_samples` held-out videos; returns scores of it.

    A process without a tracker only takes part, where weights are shared out. Asked to stop, it
    leaves off.
    """
    model.eval()
    shown = method.show(model, _few(reader, method.run.num_samples, stopping))
    if tracker is None:
        deque(shown, maxlen=0)
        return {}
    records = tracker.samples(step, shown)
    return {} if stopping() else method.scores(records)


def _few(reader: Reader, count: int, stopping: Stopping) -> Iterator[Sample]:
    for number in reader.samples.first_of_each_video()[:count]:
        if stopping():
            return
        sample = reader.sample(number)
        if sample is not None:  # else it is counted and named with the objective
            yield sample
