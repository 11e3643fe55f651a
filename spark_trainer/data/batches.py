"""The order of samples: shuffled passes over all of them, cut into updates, dealt to groups."""

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BUCKETS = 16  # updates, at most, over which samples are sorted by length
# Share of a length by which a sample may be taken for longer as samples are sorted. Sorted by the
# letters of short answers, all samples of an update had the same one: a model that was told "red"
# of 40 % of the red squares, and "green" of the rest, said "red" of 3 %.
BLUR = 1 / 16
SHAPE = 1 << 32  # a length is below; what is above keeps clips of one shape together


def batches(
    lengths: "np.ndarray", size: int, seed: int, bucketed: bool, start: int = 0
) -> Iterator[list[int]]:
    """Yield the sample numbers of each update, without end, from update `start` on.

    Each epoch is one shuffled pass over all samples. Where its end is not the end of an update, the
    update takes its remaining samples from the next epoch. No sample comes twice in one update;
    where there are fewer samples than `size`, each comes as often as any other, or once more. The
    order follows from these arguments alone, so a resumed run needs only its number of updates.

    Args:
        lengths: a measure of each sample's length, shape (samples,); only its order counts.
        size: samples of an update, over all processes.
        seed: seed of the shuffling.
        bucketed: samples are sorted by length within an update, and by about their length within up
            to BUCKETS updates of one epoch, which then come in random order.
        start: updates that were taken before.
    """
    import numpy as np

    total = len(lengths)
    epoch, skipped = divmod(start * size, total)
    epochs = _epochs(lengths, size, seed, bucketed, epoch)
    left = next(epochs)[skipped:]
    while True:
        while len(left) < size:
            left = np.concatenate([left, next(epochs)])
        taken, left = left[:size], left[size:]
        yield (_sorted(taken, lengths[taken % total]) if bucketed else taken).tolist()


def dealt(lengths: Sequence[int], count: int, room: int | None = None) -> list[list[int]]:
    """Deal things to groups of similar total length: each to the least filled, the longest first.

    No group is empty where there are things enough. Where every group has room for all of them, no
    two groups are further apart than the longest thing (Graham 1969, doi:10.1137/0117039).

    Args:
        lengths: of the things.
        count: number of groups.
        room: how many things a group takes; without it any number.

    Returns:
        the places in `lengths` that each group got, in rising order.
    """
    groups: list[list[int]] = [[] for _ in range(count)]
    open_groups = [(0, 0, number) for number in range(count)]  # total, things, group: a heap
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        total, things, number = heapq.heappop(open_groups)
        groups[number].append(place)
        if things + 1 != room:
            heapq.heappush(open_groups, (total + lengths[place], things + 1, number))
    return [sorted(group) for group in groups]


def _epochs(
    lengths: "np.ndarray", size: int, seed: int, bucketed: bool, first: int
) -> Iterator["np.ndarray"]:
    """Yield the sample numbers of each epoch from `first` on, in the order of training."""
    import numpy as np

    total = len(lengths)
    carried = np.empty(0, np.int64)  # samples of this epoch in an update shared with the next
    for epoch in itertools.count(_first_to_draw(first, total, size)):
        draw = np.random.default_rng([seed, epoch])
        before, after = -epoch * total % size, (epoch + 1) * total % size
        samples = _apart(draw.permutation(total), carried, before)
        if after <= total:
            carried = samples[total - after :]
        if epoch < first:
            continue
        if bucketed and before + after < total:
            samples[before : total - after] = _bucketed(
                samples[before : total - after].reshape(-1, size), lengths, draw
            )
        yield samples + epoch * total


def _first_to_draw(epoch: int, total: int, size: int) -> int:
    """Return the epoch from which on all must be drawn to know the order of this one.

    An epoch begins with samples that the one before doesn't end with. Where an epoch holds two
    updates or more, its end is as it was drawn. Else the end depends on the epochs before, back to
    one that begins together with an update.
    """
    if total >= 2 * size:
        return max(0, epoch - 1)
    return epoch - epoch % (size // math.gcd(total, size))


def _apart(samples: "np.ndarray", others: "np.ndarray", count: int) -> "np.ndarray":
    """Return the samples in their order, with the first `count` not among `others` if possible."""
    import numpy as np

    first = _sorted(samples, np.isin(samples, others))[:count]
    return np.concatenate([first, samples[~np.isin(samples, first)]])


def _bucketed(
    updates: "np.ndarray", lengths: "np.ndarray", draw: "np.random.Generator"
) -> "np.ndarray":
    """Return the samples of whole updates, those of similar length side by side."""
    import numpy as np

    found = []
    for window in np.array_split(updates, math.ceil(len(updates) / BUCKETS)):
        known = lengths[window.ravel()].astype(np.int64)  # above which shapes stand
        blurred = known + draw.random(known.shape) * BLUR * (known % SHAPE)
        alike = _sorted(window.ravel(), blurred).reshape(window.shape)
        found.append(draw.permutation(alike).ravel())
    return np.concatenate(found)


def _sorted(samples: "np.ndarray", keys: "np.ndarray") -> "np.ndarray":
    """Return the samples sorted by their keys; those of equal keys keep their order."""
    import numpy as np

    sorted_: np.ndarray = samples[np.argsort(keys, kind="stable")]
    return sorted_
