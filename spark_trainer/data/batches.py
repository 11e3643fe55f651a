"""Which samples an update takes: passes over all of them, one after the other."""

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BUCKETS = 16  # updates, at most, among which samples are sorted by length


def batches(
    lengths: "np.ndarray", size: int, seed: int, bucketed: bool, start: int = 0
) -> Iterator[list[int]]:
    """Sample numbers of one update of `size` after the other, for ever, from update `start` on.

    Each epoch is one shuffled pass. An update takes the end of one and the beginning of the next
    where they don't fall together; no sample comes twice in it, or once more than another where
    there are fewer than `size`. The position alone decides what comes next, so a resumed run needs
    no other data state.

    Args:
        lengths: a measure of each sample's length; only its order means something.
        size: samples of an update, over all processes.
        seed: what chance draws by.
        bucketed: samples are sorted by length within an update, and within up to BUCKETS updates
            of one epoch, which then come in any order.
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


def _epochs(
    lengths: "np.ndarray", size: int, seed: int, bucketed: bool, first: int
) -> Iterator["np.ndarray"]:
    """The sample numbers of each epoch from `first` on, in the order in which they come."""
    import numpy as np

    total = len(lengths)
    open_ = np.empty(0, np.int64)  # what the update at an epoch's end has of it
    for epoch in itertools.count(_known_from(first, total, size)):
        draw = np.random.default_rng([seed, epoch])
        before, after = -epoch * total % size, (epoch + 1) * total % size
        samples = _apart(draw.permutation(total), open_, before)
        if after <= total:
            open_ = samples[total - after :]
        if epoch < first:
            continue
        if bucketed and before + after < total:
            samples[before : total - after] = _bucketed(
                samples[before : total - after].reshape(-1, size), lengths, draw
            )
        yield samples + epoch * total


def _known_from(epoch: int, total: int, size: int) -> int:
    """From which epoch on all must be drawn to know this one.

    It begins with samples that the one before doesn't end with. An end shorter than `size` is what
    was drawn where two of them fit into an epoch; else it depends on the epochs before, back to one
    that begins together with an update.
    """
    if total >= 2 * size:
        return max(0, epoch - 1)
    return epoch - epoch % (size // math.gcd(total, size))


def _apart(samples: "np.ndarray", others: "np.ndarray", count: int) -> "np.ndarray":
    """The samples in their order, but the first `count` are none of the others, while there are."""
    import numpy as np

    first = _sorted(samples, np.isin(samples, others))[:count]
    return np.concatenate([first, samples[~np.isin(samples, first)]])


def _bucketed(
    updates: "np.ndarray", lengths: "np.ndarray", draw: "np.random.Generator"
) -> "np.ndarray":
    """The samples of whole updates, those of similar length side by side."""
    import numpy as np

    found = []
    for window in np.array_split(updates, math.ceil(len(updates) / BUCKETS)):
        alike = _sorted(window.ravel(), lengths[window.ravel()]).reshape(window.shape)
        found.append(draw.permutation(alike).ravel())
    return np.concatenate(found)


def _sorted(samples: "np.ndarray", keys: "np.ndarray") -> "np.ndarray":
    """The samples by their keys, those of one key in the order that they have."""
    import numpy as np

    sorted_: np.ndarray = samples[np.argsort(keys, kind="stable")]
    return sorted_
