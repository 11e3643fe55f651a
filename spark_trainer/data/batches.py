"""Which samples come together in a batch, and in which order batches come."""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BUCKETS = 16  # batches among which samples are sorted by length


def batches(
    lengths: "np.ndarray", size: int, seed: int, bucketed: bool, start: int = 0
) -> Iterator[list[int]]:
    """Sample numbers of one batch of `size` after the other, for ever, from batch `start` on.

    Each epoch is one shuffled pass. Bucketed, samples are sorted by length within BUCKETS batches,
    which are then drawn in any order. The position alone decides what comes next, so a resumed
    run needs no other data state.
    """
    import numpy as np

    window = BUCKETS if bucketed else 1
    wide = window * size
    number, skipped = divmod(start, window)
    while True:
        taken = _stream(len(lengths), number * wide, wide, seed)
        if bucketed:
            taken = taken[np.argsort(lengths[taken % len(lengths)], kind="stable")]
        rows = taken.reshape(window, size)
        if bucketed:
            rows = np.random.default_rng([seed, number]).permutation(rows)
        for row in rows[skipped:]:
            yield row.tolist()
        number, skipped = number + 1, 0


def _stream(total: int, start: int, count: int, seed: int) -> "np.ndarray":
    """Positions `start` to `start + count` of the endless sequence of shuffled epochs."""
    import numpy as np

    pieces = []
    while count > 0:
        epoch, skipped = divmod(start, total)
        piece = _epoch(total, seed, epoch)[skipped : skipped + count] + epoch * total
        pieces.append(piece)
        start, count = start + len(piece), count - len(piece)
    return np.concatenate(pieces)


@lru_cache(maxsize=2)
def _epoch(total: int, seed: int, epoch: int) -> "np.ndarray":
    """One shuffled pass."""
    import numpy as np

    return np.random.default_rng([seed, epoch, 1]).permutation(total)
