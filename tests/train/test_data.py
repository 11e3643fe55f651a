"""Several processes see what one would see; what can't be used is replaced and named."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data import dataset
from spark_trainer.families import Wanted
from spark_trainer.train.data import Reader, Share, Texts, held_out

LENGTHS = np.arange(20)


class Twenty:
    """Twenty samples of known length."""

    def lengths(self) -> np.ndarray:
        return LENGTHS


def numbers(world: int, start: int = 0) -> list[list[list[int]]]:
    """The first batches of every process."""
    shares = [Share(8, 3, rank, world, 0, True, start) for rank in range(world)]
    return [list(islice(share.batches(Twenty()), 4 * share.num_batches)) for share in shares]


@pytest.mark.parametrize("world", [2, 4, 8])
def test_an_update_has_the_same_samples_however_many_processes(world: int) -> None:
    def updates(found: list[list[list[int]]], count: int) -> list[list[int]]:
        per = [len(own) // count for own in found]
        return [
            sorted(
                n
                for own, k in zip(found, per, strict=True)
                for b in own[i * k : i * k + k]
                for n in b
            )
            for i in range(count)
        ]

    assert updates(numbers(world), 4) == updates(numbers(1), 4)
    assert all(len(batch) <= 3 for own in numbers(world) for batch in own)


def test_a_share_goes_on_where_it_stopped() -> None:
    [whole] = numbers(2)[:1]
    [later] = numbers(2, start=2)[:1]
    assert later[:4] == whole[4:]


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
