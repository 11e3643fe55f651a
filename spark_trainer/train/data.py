"""Batches for one process: which samples, decoded ahead by worker processes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from spark_trainer import families
from spark_trainer.data.dataset import Sample, Samples, Unusable, batches
from spark_trainer.families import Batch, Encoded, Family, Films, Generates, Loaded

MAX_REPLACEMENTS = 8  # samples tried in place of a batch of which none can be used


class Taken(NamedTuple):
    """What one call for samples gave: batches, reasons of samples left out, and texts cut."""

    batches: list[Batch]
    reasons: list[str]
    cut: int


@dataclass(frozen=True)
class Reader(ABC):
    """Turns sample numbers into batches; what a worker process does."""

    samples: Samples
    family: Family
    loaded: Loaded

    @abstractmethod
    def encoded(self, sample: Sample) -> Any:
        """What a worker makes of a sample.

        Raises:
            Unusable: it can't be learnt from.
        """

    @abstractmethod
    def collated(self, encoded: list[Any]) -> list[Batch]:
        """Batches of samples that go together."""

    def ready(self, batch: Batch, device: torch.device) -> Batch:
        """The batch as the loss takes it, on its device; never what a worker does."""
        return moved(batch, device)

    def __getitem__(self, numbers: Sequence[int]) -> Taken:
        encoded, reasons = [], []
        spare = iter(range(numbers[-1] + 1, numbers[-1] + 1 + MAX_REPLACEMENTS))
        pending = list(numbers)
        while pending:
            try:
                sample = self.samples[pending.pop(0)]
                encoded.append(self.encoded(sample))
            except Unusable as reason:
                reasons.append(str(reason))
            if not pending and not encoded:
                # No batch may be empty: every process has to take part in every update.
                pending = [number for number in [next(spare, None)] if number is not None]
        made = self.collated(encoded) if encoded else []
        return Taken(made, reasons, sum(getattr(one, "cut", False) for one in encoded))


@dataclass(frozen=True)
class Texts(Reader):
    """For families that write: tokens and pixels are made by the workers."""

    family: Generates
    max_length: int
    packed: bool

    def encoded(self, sample: Sample) -> Encoded:
        return self.family.encode(self.loaded, sample, self.max_length)

    def collated(self, encoded: list[Encoded]) -> list[Batch]:
        return [
            self.family.collate(self.loaded, group, self.packed)
            for group in families.groups(encoded)
        ]


@dataclass(frozen=True)
class Clips(Reader):
    """For families that make videos: workers decode, and the frozen encoders run on the device.

    `common` is what the family's `shared` made; `guidance_dropout` how often a condition is left
    out.
    """

    family: Films
    common: dict[str, torch.Tensor]
    guidance_dropout: float

    def encoded(self, sample: Sample) -> Sample:
        return sample

    def collated(self, encoded: list[Sample]) -> list[Batch]:
        alike: dict[Any, list[Sample]] = {}
        for clip in encoded:
            alike.setdefault((clip.size, len(clip.images)), []).append(clip)
        return [
            {"clips": group, "seeds": [clip.seed for clip in group]} for group in alike.values()
        ]

    def ready(self, batch: Batch, device: torch.device) -> Batch:
        made = [
            self.family.encode(self.loaded, clip, clip.size or clip.images[0].size)
            for clip in batch["clips"]
        ]
        told = {"seeds": batch["seeds"], "guidance_dropout": self.guidance_dropout}
        return moved(self.family.collate(made, self.common), device) | told


@dataclass(frozen=True)
class Share:
    """This process's part of every update: each `world`-th sample, `batch_size` at a time."""

    update_size: int
    batch_size: int
    rank: int
    world: int
    seed: int
    bucketed: bool
    start: int

    @property
    def num_batches(self) -> int:
        """Calls for samples in an update."""
        return -(-self.update_size // self.world // self.batch_size)

    def batches(self, samples: Samples) -> Iterator[list[int]]:
        """Sample numbers of one batch after the other, for ever, from update `start` on."""
        lengths = samples.lengths()
        for numbers in batches(lengths, self.update_size, self.seed, self.bucketed, self.start):
            mine = numbers[self.rank :: self.world]
            for first in range(0, len(mine), self.batch_size):
                yield mine[first : first + self.batch_size]


class _Sampler:
    """A share as torch's loader takes it."""

    def __init__(self, share: Share, samples: Samples) -> None:
        self._share, self._samples = share, samples

    def __iter__(self) -> Iterator[list[int]]:
        return self._share.batches(self._samples)


def training(reader: Reader, share: Share, num_workers: int, pin: bool) -> Iterator[Taken]:
    """Batches of this process's share, for ever."""
    loader: DataLoader[Any] = DataLoader(
        reader,  # type: ignore[arg-type]  # anything that is indexed will do
        sampler=_Sampler(share, reader.samples),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin,
    )
    return iter(loader)


def held_out(reader: Reader, batch_size: int, rank: int, world: int) -> Iterator[Taken]:
    """Every held-out sample once, dealt to the processes in turn."""
    mine = range(rank, len(reader.samples), world)
    for start in range(0, len(mine), batch_size):
        yield _only(reader, list(mine[start : start + batch_size]))


def _only(reader: Reader, numbers: list[int]) -> Taken:
    """These samples and no replacement."""
    taken = reader[numbers]
    return taken if len(taken.reasons) < len(numbers) else Taken([], taken.reasons, 0)


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


def num_targets(batch: Batch) -> int:
    """How many tokens the loss of a batch is over, or how many clips."""
    if "labels" not in batch:
        return len(batch["seeds"])
    return int((batch["labels"] != families.IGNORED).sum())


def num_tokens(batch: Batch) -> int:
    """How many tokens a batch holds, images included, padding not; none in a batch of clips."""
    if "labels" not in batch:
        return 0
    mask = batch.get("attention_mask")
    return int(batch["input_ids"].numel() if mask is None else mask.sum())
