"""Batches for one process: which samples, decoded ahead by worker processes."""

import atexit
import multiprocessing
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from PIL import Image
from torch.utils.data import DataLoader

from spark_trainer import environment, families, log
from spark_trainer.data import control, encoded
from spark_trainer.data.batches import batches
from spark_trainer.data.dataset import VideoFrameDataset
from spark_trainer.data.encoded import EMPTY, TEXT, Store
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.errors import MachineError, of_machine, unexpected
from spark_trainer.families import Batch, Encoded, Family, Films, Generates, Loaded, Reads

GREY_PX = 64  # side of the picture that shows whether a family can encode at all
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

    def prove(self) -> None:  # noqa: B027  # most readers have nothing that can't be used
        """Read something that every sample would do for.

        Raises:
            Exception: of any class, where the settings let no sample be read.
        """

    def __getitem__(self, numbers: Sequence[int]) -> Taken:
        reasons: list[str] = []
        made = self._together([self._one(number, reasons) for number in numbers], reasons)
        spare = range(numbers[-1] + 1, numbers[-1] + 1 + MAX_REPLACEMENTS)
        for number in spare:
            if made.batches:
                break
            # No batch may be empty: every process has to take part in every update.
            made = self._together([self._one(number, reasons)], reasons)
        return made

    def sample(self, number: int) -> Sample | None:
        """A sample as it is shown and generated for; None where it can't be learnt from either."""
        return None if self._one(number, []) is None else self.samples[number]

    def _one(self, number: int, reasons: list[str]) -> "_Read | None":
        """A sample, or None and the reason."""
        try:
            return _Read(number, self.read(number))
        except Exception as error:
            reasons.append(self._reason(number, error))
            return None

    def _together(self, read: "Sequence[_Read | None]", reasons: list[str]) -> Taken:
        """Batches of what can be put together; what can't is left out."""
        usable = [one for one in read if one is not None]
        if not usable:
            return Taken([], reasons, 0)
        cut = sum(getattr(one.made, "cut", False) for one in usable)
        try:
            return Taken(self.collated([one.made for one in usable]), reasons, cut)
        except Exception as error:
            if len(usable) == 1:
                reasons.append(self._reason(usable[0].number, error))
                return Taken([], reasons, 0)
        alone = [self._together([one], reasons) for one in usable]
        batches = [batch for taken in alone for batch in taken.batches]
        return Taken(batches, reasons, sum(taken.cut for taken in alone))

    def _reason(self, number: int, error: Exception) -> str:
        """Why a sample is left out.

        Raises:
            OSError: the machine failed, which is no fault of the sample.
            MachineError: the same.
            ValueError: the settings let no sample be read.
        """
        if of_machine(error):
            raise error
        video = self.samples.video(number)
        if isinstance(error, Unusable):
            return str(error) if video in str(error) else f"video {video}: {error}"
        log.logger.error("video %s", video, exc_info=error)
        try:
            self.prove()
        except Unusable:
            pass
        except Exception as same:
            raise ValueError(
                f"train.model_name: not even a grey picture can be learnt from: {unexpected(same)}"
            ) from same
        return f"video {video}: {unexpected(error)}"


class _Read(NamedTuple):
    """A sample's number, and what was read of it."""

    number: int
    made: Any


@dataclass(frozen=True)
class _Guarded:
    """A reader in a worker process: what stops the run comes as a value.

    An error that a loader carries over from a worker loses its number and gains a traceback.
    """

    reader: Reader

    def __getitem__(self, numbers: Sequence[int]) -> Taken | Exception:
        try:
            return self.reader[numbers]
        except Exception as error:
            return error


@dataclass(frozen=True)
class Texts(Reader):
    """For families that write: tokens and pixels are made by the workers."""

    family: Generates
    max_length: int
    packed: bool

    def read(self, number: int) -> Encoded:
        return self.family.encode(self.loaded, self.samples[number], self.max_length)

    def prove(self) -> None:
        images = (Image.new("RGB", (GREY_PX, GREY_PX)),) * (1 if self.family.ONE_FRAME else 2)
        grey = Sample("grey", images, (0.0, 1.0)[: len(images)], None, "grey")
        self.collated([self.family.encode(self.loaded, grey, self.max_length)])

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
        clip = self.samples[number]
        self.family.refuse(self.loaded, clip)
        return clip

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
        if self.family.NEEDS.text:
            control.refuse(self.loaded.processor, f"{name}: its text", plan.answer)
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
class DistributedBatchSampler:
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
    """Yield the batches of a `DistributedBatchSampler` to torch's loader."""

    def __init__(self, sampler: DistributedBatchSampler, samples: VideoFrameDataset) -> None:
        self._sampler, self._samples = sampler, samples

    def __iter__(self) -> Iterator[list[int]]:
        return self._sampler.batches(self._samples)


def training(
    reader: Reader, sampler: DistributedBatchSampler, num_workers: int, pin: bool
) -> "Ahead":
    """Yield this process's batches, for ever."""
    loader: DataLoader[Any] = DataLoader(
        _Guarded(reader),  # type: ignore[arg-type]  # anything that is indexed will do
        sampler=_Sampler(sampler, reader.samples),  # type: ignore[arg-type]
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin,
        worker_init_fn=environment.work_on,
        # Without one of its own it draws from the generator that a resume has just restored.
        generator=torch.Generator().manual_seed(sampler.seed),
    )
    made = iter(loader)
    # Torch's own such call was made as it started its workers, so this one comes before it.
    atexit.register(_end_workers)
    return Ahead(made)


def _end_workers() -> None:
    """End workers that still wait for a question as the process ends.

    An error that is on its way keeps the loader, and its workers hear no SIGTERM: Python would wait
    for them for ever.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own raises where a worker is killed
    for worker in multiprocessing.active_children():
        worker.kill()


class Ahead(Iterator[Taken]):
    """What the workers of a loader read, one call after the other."""

    def __init__(self, loader: Iterator[Taken | Exception]) -> None:
        self._loader = loader
        self.killed = False  # whether a worker was, once closed

    def __next__(self) -> Taken:
        """Give the next; raises MachineError where a worker process is gone."""
        try:
            taken = next(self._loader)
        except RuntimeError as error:  # only the loader's own: a reader's comes as a value
            raise MachineError(f"reading ahead: {error}") from error
        if isinstance(taken, Exception):
            raise taken
        return taken

    def close(self) -> None:
        """End the workers; torch tells of a killed one by an error wherever this process is."""
        workers = getattr(self._loader, "_workers", ())
        self.killed = self.killed or any((one.exitcode or 0) < 0 for one in workers)
        self._loader = iter(())


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
    if "labels" not in batch or families.TOKENS in batch:
        return int(batch.get(families.TOKENS, 0))
    mask = batch.get("attention_mask")
    return int(batch["input_ids"].numel() if mask is None else mask.sum())
