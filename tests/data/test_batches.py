"""Which samples come together, and in which order."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spark_trainer.data.batches import SHAPE, batches, dealt


class Asked(NamedTuple):
    """Samples of a few shapes, and how they are taken."""

    lengths: np.ndarray
    size: int
    epochs: int
    bucketed: bool

    @property
    def total(self) -> int:
        return len(self.lengths)

    def updates(self, start: int = 0) -> Iterator[list[int]]:
        return batches(self.lengths, self.size, 3, self.bucketed, start)

    def first(self) -> list[list[int]]:
        """The updates of all epochs, the last of which may take from one more."""
        return list(islice(self.updates(), -(-self.epochs * self.total // self.size)))


def asked(total: int, size: int, epochs: int, bucketed: bool, shapes: int = 1) -> Asked:
    drawn = np.random.default_rng(total)
    lengths = drawn.integers(1, 100, total) + drawn.integers(0, shapes, total) * SHAPE
    return Asked(lengths, size, epochs, bucketed)


ANY = st.builds(
    asked,
    st.integers(1, 600),
    st.integers(1, 64),
    st.integers(1, 4),
    st.booleans(),
    st.integers(1, 3),
)


@settings(max_examples=200, deadline=None)
@given(ANY)
@example(asked(20, 8, 1, True))  # before, three quarters never came
@example(asked(100, 32, 1, True))
@example(asked(400, 32, 1, True))
@example(asked(40, 8, 1, True))
@example(asked(5, 64, 4, True))
def test_every_epoch_is_one_pass_over_every_sample(some: Asked) -> None:
    taken = np.array(some.first())
    assert taken.shape[1] == some.size
    # An update at a border has all that is left of the epoch, and the rest from the next.
    epochs = np.arange(taken.size).reshape(taken.shape) // some.total
    assert (np.sort(taken // some.total, axis=1) == epochs).all()
    assert len(np.unique(taken)) == taken.size
    complete = some.epochs * some.total
    assert (np.sort(taken, axis=None)[:complete] == np.arange(complete)).all()


@settings(max_examples=200, deadline=None)
@given(ANY)
@example(asked(9, 8, 4, True))
@example(asked(15, 8, 4, False))
def test_no_sample_comes_twice_in_an_update_that_all_fill(some: Asked) -> None:
    """And of fewer samples each comes as often as any other, or once more."""
    for update in some.first():
        counts = Counter(number % some.total for number in update)
        most, least = max(counts.values()), min(counts.values())
        assert most - (least if len(counts) == some.total else 0) <= 1


@settings(max_examples=100, deadline=None)
@given(ANY, st.data())
@example(asked(9, 8, 60, True), None)
def test_updates_go_on_where_they_stopped(some: Asked, data: st.DataObject | None) -> None:
    whole = some.first()
    starts = range(len(whole)) if data is None else [data.draw(st.integers(0, len(whole) - 1))]
    for start in starts:
        assert list(islice(some.updates(start), len(whole) - start)) == whole[start:]


@pytest.mark.parametrize("bucketed", [False, True])
@pytest.mark.parametrize(("total", "size"), [(37, 4), (12, 8), (5, 3)])
def test_every_epoch_has_another_order_and_every_seed(
    total: int, size: int, bucketed: bool
) -> None:
    some = asked(total, size, 4, bucketed)
    taken = np.concatenate(some.first())[: 4 * total].reshape(4, total) % total
    assert len({tuple(epoch) for epoch in taken.tolist()}) == 4
    other = batches(some.lengths, size, 4, bucketed)
    assert list(islice(other, len(some.first()))) != some.first()


@pytest.mark.parametrize(("total", "size"), [(37, 4), (400, 32), (5000, 8)])
def test_buckets_hold_the_same_samples_closer_together(total: int, size: int) -> None:
    def spread(bucketed: bool) -> float:
        some = asked(total, size, 4, bucketed)
        return float(np.mean([np.ptp(some.lengths[np.array(u) % total]) for u in some.first()]))

    assert spread(True) < spread(False) / 4


def test_an_update_does_not_hold_one_answer_only() -> None:
    """Answers of two words, a letter longer or shorter, are no reason to part samples."""
    lengths = np.array([808, 810] * 64, np.int32)
    longer = [
        np.mean(lengths[np.array(update) % 128] == 810)
        for update in islice(batches(lengths, 16, 3, True), 80)
    ]
    assert 0.05 < min(longer) < max(longer) < 0.95


def test_clips_of_one_shape_come_together() -> None:
    """Three shapes in a window of 16 updates: two updates at most have clips of two."""
    some = asked(16 * 8, 8, 4, True, shapes=3)
    shapes = [{int(some.lengths[n % some.total]) // SHAPE for n in u} for u in some.first()]
    assert all(sum(len(held) > 1 for held in shapes[i : i + 16]) <= 2 for i in range(0, 64, 16))


def test_updates_do_not_come_by_length() -> None:
    some = asked(1600, 4, 1, True)
    means = [float(np.mean(some.lengths[update])) for update in some.first()]
    rises = np.mean(np.diff(means) > 0)
    assert 0.4 < rises < 0.6


LENGTHS = st.lists(st.integers(0, 100), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 12))
def test_groups_have_about_the_same_length(lengths: list[int], count: int) -> None:
    groups = dealt(lengths, count)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    assert sum(map(bool, groups)) == min(count, len(lengths))
    totals = [sum(lengths[place] for place in group) for group in groups]
    assert max(totals) - min(totals) <= max(lengths)


@given(LENGTHS, st.integers(1, 12))
def test_a_group_takes_no_more_than_it_has_room_for(lengths: list[int], room: int) -> None:
    count = -(-len(lengths) // room)
    groups = dealt(lengths, count, room)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    assert all(0 < len(group) <= room for group in groups)
