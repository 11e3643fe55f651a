"""Several processes see what one would see; what can't be used is replaced and named."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data import dataset
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.families.kinds.reading import Reader
from spark_trainer.families.kinds.vision_language import Texts
from spark_trainer.train.data import DistributedBatchSampler, evaluated, held_out


@dataclass(frozen=True)
class Samples:
    """So many samples of known length."""

    total: int

    def lengths(self) -> np.ndarray:
        return np.random.default_rng(self.total).integers(1, 100, self.total)

    def work(self) -> np.ndarray:
        return self.lengths()


@dataclass(frozen=True)
class Asked:
    """An update, and how it is taken."""

    total: int
    world: int
    each: int  # samples of a process
    batch_size: int
    bucketed: bool
    balanced: bool

    def part(self, rank: int, start: int = 0, count: int = 4) -> list[list[list[int]]]:
        """The batches of a process, update by update."""
        size = self.world * self.each
        each = self.batch_size
        sampler = self._sampler(size, each, rank, self.world, start)
        found: Iterator[list[int]] = iter(sampler)
        return [list(islice(found, sampler.num_batches)) for _ in range(count)]

    def whole(self) -> list[list[int]]:
        """The updates of one process that takes them at once."""
        size = self.world * self.each
        return list(islice(self._sampler(size, size, 0, 1, 0), 4))

    def _sampler(self, *how: int) -> DistributedBatchSampler:
        *shared, start = how
        return DistributedBatchSampler(
            Samples(self.total), *shared, 3, self.bucketed, start, self.balanced
        )


ANY = st.builds(
    Asked,
    st.integers(1, 600),
    st.integers(1, 8),
    st.integers(1, 12),
    st.integers(1, 12),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(ANY)
def test_an_update_has_the_same_samples_however_they_are_shared(some: Asked) -> None:
    """Out of the same epochs too, so no epoch is any other either."""
    parts = [some.part(rank) for rank in range(some.world)]
    for number, update in enumerate(some.whole()):
        batches = [batch for part in parts for batch in part[number]]
        assert all(0 < len(batch) <= some.batch_size for batch in batches)
        assert len({len(part[number]) for part in parts}) == 1
        assert sorted(n for batch in batches for n in batch) == sorted(update)


def test_processes_have_as_much_to_compute() -> None:
    """Within one sample's worth, where an update is dealt out by length."""
    work = Samples(600).work()
    some = Asked(600, world=8, each=12, batch_size=4, bucketed=False, balanced=True)
    for update in zip(*(some.part(rank) for rank in range(8)), strict=True):
        shares = [sum(work[n % 600] for call in part for n in call) for part in update]
        assert max(shares) - min(shares) <= work.max()


@settings(max_examples=50, deadline=None)
@given(ANY, st.integers(0, 7), st.integers(0, 3))
def test_a_share_goes_on_where_it_stopped(some: Asked, rank: int, start: int) -> None:
    rank %= some.world
    assert some.part(rank, start, 4 - start) == some.part(rank)[start:]


@pytest.fixture
def reader(manifest: Path, checkpoint: Path) -> Reader:
    family = families.find(str(checkpoint))
    run = Run(split={"validation": 0})
    samples = dataset.read(manifest, manifest.parent, run, family.one_frame)["train"]
    return Texts(samples, family, family.load(str(checkpoint), LoadOptions()), 64, False)


def test_an_unusable_batch_is_replaced_by_its_neighbour(reader: Reader, manifest: Path) -> None:
    frames = manifest.parent / reader.samples[0].video / "frames"
    for frame in frames.iterdir():
        frame.unlink()
    taken = reader[[0, 1]]
    assert len(taken.reasons) == 3
    assert "frame_000001.jpg" in taken.reasons[0]
    [batch] = taken.batches
    pixels = reader[[3]].batches[0].tensors["pixel_values"]
    assert batch.tensors["pixel_values"].equal(pixels)
    with held_out(reader, Run(batch_size=2, num_workers=0), Accelerator(cpu=True)) as read:
        counts = [len(t.batches[0].tensors["labels"]) if t.batches else 0 for t in read]
    assert counts[:2] == [0, 1]
    assert sum(counts) == len(reader.samples) - 3


def test_an_evaluation_takes_so_many_samples_at_most() -> None:
    assert evaluated(5, None) == [0, 1, 2, 3, 4]
    assert evaluated(5, 9) == [0, 1, 2, 3, 4]
    assert evaluated(10, 4) == [0, 2, 5, 7]


def test_a_cut_text_is_counted(reader: Reader) -> None:
    short: Any = replace(reader, max_length=4)
    assert short[[0, 1]].cut == 2
