"""What a model in training is measured by: the held-out loss, and what it makes of a few clips."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch

from spark_trainer import log, pipelines, scores
from spark_trainer.config import Run
from spark_trainer.data.sample import Sample
from spark_trainer.families import Batch, Films, Generates
from spark_trainer.train import data
from spark_trainer.train.strategies.base import Strategy
from spark_trainer.train.tracking import Film, Tracker

Stopping = Callable[[], int]  # whether this process was asked to stop


@torch.no_grad()  # inference mode would mark gathered weights, which then can't be trained
def held_out_loss(
    strategy: Strategy, model: Any, reader: data.Reader, run: Run, stopping: Stopping
) -> dict[str, float] | None:
    """Mean loss over the validation part, all processes together; None if one was asked to stop.

    Over every token in nats, or over every clip: chance then draws the same for a clip in every
    run, and no condition is left out.

    Samples that can't be used are named in the log and counted beside it.

    Unwrapped, because a process without a held-out batch would leave the others waiting.
    """
    accelerator = strategy.accelerator
    model = accelerator.unwrap_model(model).eval()
    sums = torch.zeros(4, dtype=torch.float64, device=accelerator.device)

    def own() -> Iterator[Batch]:
        rank, world = accelerator.process_index, accelerator.num_processes
        for taken in data.held_out(reader, run.batch_size, rank, world):
            if stopping():
                sums[3] = 1
                return
            for reason in taken.reasons:
                log.logger.warning("left out of validation: %s", reason)
            sums[2] += len(taken.reasons)
            yield from taken.batches

    for batch, counts in strategy.padded_batches(own(), lambda: reader[[0]].batches[0]):
        ready = reader.ready(batch, accelerator.device)
        with strategy.autocast():
            loss = reader.family.loss(reader.loaded, model, ready)
        if counts:
            sums[0] += loss.double()
            sums[1] += data.num_targets(batch)
    total, targets, skipped, stopped = accelerator.reduce(sums).tolist()
    if stopped:
        return None
    mean = total / targets if targets else float("nan")
    return {"held_out_loss": mean} | ({"held_out_skipped": skipped} if skipped else {})


def show(
    model: Any,
    reader: data.Reader,
    run: Run,
    tracker: Tracker | None,
    step: int,
    stopping: Stopping,
) -> dict[str, float]:
    """Texts or videos made of the first `num_samples` held-out videos; the texts' scores.

    A process without a tracker only takes part, where weights are shared out. Asked to stop, it
    leaves off.
    """
    model.eval()
    if isinstance(reader.family, Films):
        made = films(model, reader, run, stopping)
        if tracker:
            tracker.films(step, made)
        else:
            deque(made, maxlen=0)
        return {}
    said = texts(model, reader, run, stopping)
    if stopping():
        return {}
    if tracker:
        tracker.samples(step, said)
    return rated(said)


@torch.no_grad()
def texts(model: Any, reader: data.Reader, run: Run, stopping: Stopping) -> list[dict[str, Any]]:
    """What the model says about each clip."""
    family, said = cast(Generates, reader.family), []
    for clip in _few(reader, run, stopping):
        text = family.generate(reader.loaded, model, clip, run.max_new_tokens)
        said.append({"video": clip.video, "caption": clip.answer, "generated": text})
    return said


def films(model: Any, reader: data.Reader, run: Run, stopping: Stopping) -> Iterator[Film]:
    """What the model makes of each clip, from the same noise at every evaluation."""
    family, loaded = cast(Films, reader.family), reader.loaded
    for clip in _few(reader, run, stopping):
        generator = torch.Generator().manual_seed(clip.seed)
        with pipelines.placed(loaded, model.device):
            made = family.sample(
                loaded, model, clip, clip.frame_size, run.num_sampling_steps, generator
            )
        yield Film(
            clip.video, clip.answer, pipelines.fps(clip.times, clip.video), clip.images, made
        )


def _few(reader: data.Reader, run: Run, stopping: Stopping) -> Iterator[Sample]:
    for number in reader.samples.first_of_each_video()[: run.num_samples]:
        if stopping():
            return
        clip = reader.sample(number)
        if clip is not None:  # else it is counted and named with the held-out loss
            yield clip


def rated(said: list[dict[str, Any]]) -> dict[str, float]:
    """BLEU, ROUGE-L and CIDEr of generated texts."""
    if not said:
        return {}
    return scores.scores([one["generated"] for one in said], [one["caption"] for one in said])
