"""Batches for one process: which samples, decoded ahead by worker processes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from spark_trainer.data.dataset import CaptionedFrames, Sample, Unusable, order
from spark_trainer.families import Family, Loaded

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Collate:
    """Turn samples into a batch; what can't be used comes along as reasons."""

    family: Family
    loaded: Loaded

    def __call__(self, items: Sequence[Sample | Unusable]) -> tuple[Batch | None, list[str]]:
        samples = [item for item in items if isinstance(item, Sample)]
        reasons = [item.reason for item in items if isinstance(item, Unusable)]
        return (self.family.collate(self.loaded, samples) if samples else None), reasons


@dataclass(frozen=True)
class Share:
    """This process's part of every global batch: `batch_size` of `world` times as many."""

    batch_size: int
    rank: int
    world: int
    seed: int
    start: int

    def batches(self, num_samples: int) -> Iterator[list[int]]:
        """Sample numbers of one batch after the other, for ever, from batch `start` on."""
        wide = self.batch_size * self.world
        numbers = order(num_samples, self.seed, self.start * wide)
        while True:
            batch = list(islice(numbers, wide))
            yield batch[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]


class _Batches:
    """A batch sampler over a share."""

    def __init__(self, share: Share, num_samples: int) -> None:
        self._share, self._num_samples = share, num_samples

    def __iter__(self) -> Iterator[list[int]]:
        return self._share.batches(self._num_samples)


def training(
    dataset: CaptionedFrames, collate: Collate, share: Share, num_workers: int
) -> Iterator[tuple[Batch | None, list[str]]]:
    """Batches of this process's share, for ever."""
    loader: DataLoader[Any] = DataLoader(
        dataset,  # type: ignore[arg-type]  # any object with a length and items will do
        batch_sampler=_Batches(share, len(dataset)),  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=num_workers,
    )
    return iter(loader)


def held_out(
    dataset: CaptionedFrames, collate: Collate, batch_size: int, rank: int, world: int
) -> Iterator[Batch]:
    """Every held-out sample once, dealt to the processes in turn."""
    mine = range(rank, len(dataset), world)
    for start in range(0, len(mine), batch_size):
        batch, _ = collate([dataset[i] for i in mine[start : start + batch_size]])
        if batch is not None:
            yield batch
