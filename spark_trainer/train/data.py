"""Batches for one process: which samples, decoded ahead by worker processes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch.utils.data import DataLoader

from spark_trainer import environment, families
from spark_trainer.data import encoded
from spark_trainer.data.batches import batches
from spark_trainer.data.dataset import VideoFrameDataset
from spark_trainer.data.encoded import EMPTY, TEXT, Store
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families import Batch, Encoded, Family, Films, Generates, Loaded, Reads

MAX_REPLACEMENTS = 8  # samples tried in place of a batch of which none can be used


class Taken(NamedTuple):
    """What one call for samples gave: batches, reasons of samples left out, and texts cut."""

    batches: list[Batch]
    reasons: list[str]
    cut: int


@dataclass(frozen=True)
class Reader(ABC):
    """Turns sample numbers into batches; what a worker process does."""

    samples: VideoFrameDataset
    family: Family
    loaded: Loaded

    @abstractmethod
    def read(self, number: int) -> Any:
        """What a worker makes of a sample.

        Raises:
            Unusable: it can't be learnt from.
        """

    @abstractmethod
    def collated(self, read: list[Any]) -> list[Batch]:
        """Batches of samples that go together."""

    def ready(self, batch: Batch, device: torch.device) -> Batch:
        """The batch as the loss takes it, on its device; never what a worker does."""
        return moved(batch, device)

    def __getitem__(self, numbers: Sequence[int]) -> Taken:
        read, reasons = [], []
        spare = iter(range(numbers[-1] + 1, numbers[-1] + 1 + MAX_REPLACEMENTS))
        pending = list(numbers)
        while pending:
            try:
                read.append(self.read(pending.pop(0)))
            except Unusable as reason:
                reasons.append(str(reason))
            if not pending and not read:
                # No batch may be empty: every process has to take part in every update.
                pending = [number for number in [next(spare, None)] if number is not None]
        made = self.collated(read) if read else []
        return Taken(made, reasons, sum(getattr(one, "cut", False) for one in read))


@dataclass(frozen=True)
class Texts(Reader):
    """For families that write: tokens and pixels are made by the workers."""

    family: Generates
    max_length: int
    packed: bool

    def read(self, number: int) -> Encoded:
        return self.family.encode(self.loaded, self.samples[number], self.max_length)

    def collated(self, read: list[Encoded]) -> list[Batch]:
        return [
            self.family.collate(self.loaded, group, self.packed) for group in families.groups(read)
        ]


@dataclass(frozen=True)
class Clips(Reader):
    """For families that make videos: workers decode, and the frozen encoders run on the device.

    `guidance_dropout` is how often a condition is left out, `empty` what the family's `text` makes
    of no text.
    """

    family: Films
    guidance_dropout: float
    empty: torch.Tensor | None

    def read(self, number: int) -> Sample:
        return self.samples[number]

    def collated(self, read: list[Sample]) -> list[Batch]:
        alike = _grouped(read, [(clip.frame_size, len(clip.images)) for clip in read])
        return [{"clips": group, "seeds": [clip.seed for clip in group]} for group in alike]

    def ready(self, batch: Batch, device: torch.device) -> Batch:
        told = {"seeds": batch["seeds"], "guidance_dropout": self.guidance_dropout}
        return moved(self.family.collate([*map(self._encoded, batch["clips"])]), device) | told

    def _encoded(self, clip: Sample) -> dict[str, torch.Tensor]:
        made = self.family.encode(self.loaded, clip, clip.frame_size)
        if self.empty is None:
            return made
        text = cast(Reads, self.family).text(self.loaded, clip.answer)
        return made | {TEXT: text, EMPTY: self.empty}


class KeptClip(NamedTuple):
    """What was kept of a clip, and the seed by which it is learnt from."""

    tensors: dict[str, torch.Tensor]
    seed: int


@dataclass(frozen=True)
class Kept(Reader):
    """The same, but the encoders saw every clip before: workers read what was kept."""

    family: Films
    guidance_dropout: float
    store: Store

    def read(self, number: int) -> KeptClip:
        plan = self.samples.plan(number)
        name = f"video {plan.entry['id']}"
        tensors = encoded.read(self.store.clip(self.samples, plan), name)
        if self.family.NEEDS.text:
            tensors[TEXT] = encoded.read(self.store.text(plan.answer), name)[TEXT]
            tensors[EMPTY] = encoded.read(self.store.text(""), name)[TEXT]
        return KeptClip(tensors, plan.seed)

    def collated(self, read: list[KeptClip]) -> list[Batch]:
        shapes = [
            tuple((name, *value.shape) for name, value in one.tensors.items() if name != TEXT)
            for one in read
        ]
        return [
            self.family.collate([clip.tensors for clip in group])
            | {"seeds": [clip.seed for clip in group], "guidance_dropout": self.guidance_dropout}
            for group in _grouped(read, shapes)
        ]


def _grouped(things: list[Any], keys: list[Any]) -> list[list[Any]]:
    """Things of one key together, in the order in which the keys come."""
    groups: dict[Any, list[Any]] = {}
    for thing, key in zip(things, keys, strict=True):
        groups.setdefault(key, []).append(thing)
    return list(groups.values())


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

    def batches(self, samples: VideoFrameDataset) -> Iterator[list[int]]:
        """Sample numbers of one batch after the other, for ever, from update `start` on."""
        lengths = samples.lengths()
        for numbers in batches(lengths, self.update_size, self.seed, self.bucketed, self.start):
            mine = numbers[self.rank :: self.world]
            for first in range(0, len(mine), self.batch_size):
                yield mine[first : first + self.batch_size]


class _Sampler:
    """A share as torch's loader takes it."""

    def __init__(self, share: Share, samples: VideoFrameDataset) -> None:
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
        worker_init_fn=environment.work_on,
        # Without one of its own it draws from the generator that a resume has just restored.
        generator=torch.Generator().manual_seed(share.seed),
    )
    return iter(loader)


def lost(taken: Iterator[Taken] | None) -> bool:
    """Whether a process that reads samples ahead was killed."""
    return any((one.exitcode or 0) < 0 for one in getattr(taken, "_workers", ()))


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
