"""Which samples come together, and in which order."""

from itertools import islice

import numpy as np
import pytest

from spark_trainer.data.batches import batches

LENGTHS = np.random.default_rng(0).integers(1, 100, 37)


@pytest.mark.parametrize("bucketed", [False, True])
def test_batches_go_on_where_they_stopped(bucketed: bool) -> None:
    whole = list(islice(batches(LENGTHS, 4, 3, bucketed), 80))
    for start in (0, 1, 15, 16, 17, 40):
        assert (
            list(islice(batches(LENGTHS, 4, 3, bucketed, start), 30)) == whole[start : start + 30]
        )


def test_every_epoch_is_one_shuffled_pass() -> None:
    numbers = [n for batch in islice(batches(LENGTHS, 4, 3, False), 37) for n in batch]
    assert sorted(numbers) == list(range(4 * 37))
    first, second = numbers[:37], [number - 37 for number in numbers[37:74]]
    assert sorted(first) == sorted(second) == list(range(37))
    assert first != second


def test_buckets_hold_the_same_samples_closer_together() -> None:
    def spread(found: list[list[int]]) -> float:
        return float(np.mean([np.ptp(LENGTHS[np.array(batch) % 37]) for batch in found]))

    plain = list(islice(batches(LENGTHS, 4, 3, False), 160))
    bucketed = list(islice(batches(LENGTHS, 4, 3, True), 160))
    assert sorted(n for b in plain for n in b) == sorted(n for b in bucketed for n in b)
    assert spread(bucketed) < spread(plain) / 4
