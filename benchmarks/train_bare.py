"""A bare PyTorch loop over a run's own batches, and its steps in turns with those of ours."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import train_setup
from torch.utils.data import DataLoader

from spark_trainer.config import Run
from spark_trainer.system.progress import Advance
from spark_trainer.train import data, loop, optim, setup
from spark_trainer.train.loop import Trainer


def steps(run: Run, reader: Any) -> Iterator[tuple[float, float]]:
    """Yield a run's updates in plain PyTorch: the seconds of each and its loss."""
    family: Any = reader.family
    model = reader.loaded.model
    family.freeze(model, run)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = optim.optimizer(model, run)
    schedule = optim.schedule(optimizer, run, run.max_steps)
    how = run.batch_size, run.batch_size, 0, 1, run.seed, run.bucketed, 0
    sampler = data.DistributedBatchSampler(reader.samples, *how)
    numbers = list(itertools.islice(sampler, run.max_steps))
    loader = DataLoader(reader, sampler=numbers, batch_size=None, num_workers=run.num_workers)
    model.train()
    batches = iter(loader)
    for _ in numbers:
        began = time.perf_counter()
        batch = next(batches).batches[0]
        loss = family.loss(reader.loaded, model, batch) / batch.num_targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, run.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        value = loss.item()
        yield time.perf_counter() - began, value


def in_turns(folder: Path, other: Iterator[tuple[float, float]]) -> list[tuple[float, float]]:
    """Seconds of our step and of another's for each batch, taken in turns.

    Args:
        folder: of our run.
        other: seconds and loss of the other's step, which takes place when it is asked for.

    Our loop runs as it always does; the other step takes place where a step's progress is told.
    """
    pairs: list[tuple[float, float, float]] = []

    @contextlib.contextmanager
    def progress(*_: Any, **__: Any) -> Iterator[Advance]:
        began = time.perf_counter()

        def advance(note: str = "") -> None:
            nonlocal began
            own = time.perf_counter() - began
            pairs.append((own, *next(other)))
            began = time.perf_counter()

        yield advance

    with mock.patch.object(loop, "progress", progress):
        Trainer.build(setup.prepare(folder)).train()
    metrics = train_setup.steps(folder).metrics
    losses = [loss for _, _, loss in pairs[train_setup.WARM :]]
    same = [abs(line["loss"] - loss) for line, loss in zip(metrics, losses, strict=True)]
    assert max(same) < 1e-3, f"the loops did not do the same: {max(same)}"
    return [
        (own, their) for own, their, _ in pairs[train_setup.WARM : -1]
    ]  # the last one evaluates
