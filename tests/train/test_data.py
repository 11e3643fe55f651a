"""Several processes see what one would see; what can't be used is replaced and named."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data import dataset
from spark_trainer.families import Wanted
from spark_trainer.train.data import DistributedBatchSampler, Reader, Texts, held_out


@dataclass(frozen=True)
class Samples:
    """So many samples of known length."""

    total: int

    def lengths(self) -> np.ndarray:
        return np.random.default_rng(self.total).integers(1, 100, self.total)


@dataclass(frozen=True)
class Asked:
    """An update, and how it is taken."""

    total: int
    world: int
    each: int  # samples of a process
    batch_size: int
    bucketed: bool

    def part(self, rank: int, start: int = 0, count: int = 4) -> list[list[list[int]]]:
        """The batches of a process, update by update."""
        size = self.world * self.each
        sampler = DistributedBatchSampler(
            size, self.batch_size, rank, self.world, 3, self.bucketed, start
        )
        found: Iterator[list[int]] = sampler.batches(Samples(self.total))
        return [list(islice(found, sampler.num_batches)) for _ in range(count)]

    def whole(self) -> list[list[int]]:
        """The updates of one process that takes them at once."""
        size = self.world * self.each
        sampler = DistributedBatchSampler(size, size, 0, 1, 3, self.bucketed, 0)
        return list(islice(sampler.batches(Samples(self.total)), 4))


ANY = st.builds(
    Asked,
    st.integers(1, 600),
    st.integers(1, 8),
    st.integers(1, 12),
    st.integers(1, 12),
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


@settings(max_examples=50, deadline=None)
@given(ANY, st.integers(0, 7), st.integers(0, 3))
def test_a_share_goes_on_where_it_stopped(some: Asked, rank: int, start: int) -> None:
    rank %= some.world
    assert some.part(rank, start, 4 - start) == some.part(rank)[start:]


@pytest.fixture
def reader(manifest: Path, checkpoint: Path) -> Reader:
    family = families.find(str(checkpoint))
    run = Run(split={"validation": 0})
    samples = dataset.read(manifest, manifest.parent, run, family.ONE_FRAME)["train"]
    return Texts(samples, family, family.load(str(checkpoint), Wanted()), 64, False)


def test_an_unusable_batch_is_replaced_by_its_neighbour(reader: Reader, manifest: Path) -> None:
    frames = manifest.parent / reader.samples[0].video / "frames"
    for frame in frames.iterdir():
        frame.unlink()
    taken = reader[[0, 1]]
    assert len(taken.reasons) == 3
    assert "frame_000001.jpg" in taken.reasons[0]
    [batch] = taken.batches
    assert batch["pixel_values"].equal(reader[[3]].batches[0]["pixel_values"])
    counts = [len(t.batches[0]["labels"]) if t.batches else 0 for t in held_out(reader, 2, 0, 1)]
    assert counts[:2] == [0, 1]
    assert sum(counts) == len(reader.samples) - 3


def test_a_cut_text_is_counted(reader: Reader) -> None:
    short: Any = replace(reader, max_length=4)
    assert short[[0, 1]].cut == 2
