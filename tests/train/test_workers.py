"""As many workers read as training needs, what they read is the same, and waiting is told."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data import dataset
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.families.kinds.reading import Reader
from spark_trainer.families.kinds.vision_language import Texts
from spark_trainer.train import data
from spark_trainer.train.data import Ahead, DistributedBatchSampler
from spark_trainer.train.workers import MEASURED, WARM, Reading, needed

Opened = Callable[[int, int], Ahead]


@pytest.fixture
def reader(manifest: Path, checkpoint: Path) -> Reader:
    family = families.find(str(checkpoint))
    run = Run(split={"validation": 0})
    samples = dataset.read(manifest, manifest.parent, run, family.one_frame)["train"]
    return Texts(samples, family, family.load(str(checkpoint), LoadOptions()), 64, False)


@pytest.fixture
def opens(reader: Reader) -> tuple[Opened, list[tuple[int, int]]]:
    """Opens a reader of updates of two calls for a sample, and notes how."""
    sampler = DistributedBatchSampler(reader.samples, 2, 1, 0, 1, 0, False, 0)
    seen: list[tuple[int, int]] = []

    def opened(update: int, workers: int) -> Ahead:
        seen.append((update, workers))
        return data.training(reader, replace(sampler, start=update), workers, pin=False)

    return opened, seen


def clock(step_s: float) -> Callable[[], float]:
    """A clock on which each look takes so long."""
    times: Iterator[float] = (number * step_s for number in count())
    return lambda: next(times)


@pytest.mark.parametrize(
    ("read_s", "trained_s", "most", "workers"),
    [(1.0, 1.0, 7, 2), (0.8, 1.0, 7, 1), (4.0, 1.0, 7, 5), (8.0, 1.0, 7, 7), (1.0, 0.0, 7, 7)],
)
def test_workers_read_as_fast_as_training_goes_on(
    read_s: float, trained_s: float, most: int, workers: int
) -> None:
    assert needed(read_s, trained_s, most) == workers


@pytest.mark.parametrize(
    ("num_workers", "update_s", "opened"),
    [
        ("auto", 1e-6, [(0, 2), (WARM + MEASURED, 3)]),
        ("auto", 1e3, [(0, 2)]),
        (1, 1e-6, [(0, 1)]),
    ],
)
def test_what_is_read_does_not_depend_on_the_number_of_workers(
    num_workers: int | str,
    update_s: float,
    opened: list[tuple[int, int]],
    opens: tuple[Opened, list[tuple[int, int]]],
) -> None:
    made = Reading(opens[0], num_workers, 2, 2, most=3, tells=False, clock=clock(update_s))
    calls = 2 * (WARM + MEASURED + 3)
    with made as found, opens[0](0, 0) as alone:
        for one, other in islice(zip(found, alone, strict=False), calls):
            pixels = [read.batches[0].tensors["pixel_values"] for read in (one, other)]
            assert pixels[0].equal(pixels[1])
    assert [how for how in opens[1] if how[1]] == opened


def test_waiting_for_samples_is_told_once(
    opens: tuple[Opened, list[tuple[int, int]]], caplog: pytest.LogCaptureFixture
) -> None:
    with Reading(opens[0], 0, 2, 2, most=3, tells=True, clock=clock(1.0)) as found:
        for _ in islice(found, 210):
            pass
    [said] = caplog.messages
    assert said.startswith("reading is the bottleneck: 50 % of the time goes into waiting")
    assert "0 workers read; raise train.num_workers, to 3 at most" in said
