"""Packed rows of a limited length, of few different lengths.

A device plans its kernels for each new length, as cuDNN's attention and torch.compile do: a row is
filled up to one of NUM_LENGTHS, with a segment of padding that no sample sees.
"""

from collections.abc import Sequence

from spark_trainer.data.batches import dealt
from spark_trainer.families.kinds.batch import IGNORED, Encoded

NUM_LENGTHS = 16  # so at most a sixteenth of the longest row is padding


def dealt_out(encoded: Sequence[Encoded], longest: int) -> list[list[Encoded]]:
    """Return samples in few rows of at most `longest` tokens, all about as long.

    None of the samples is longer than that.
    """
    lengths = [len(one.labels) for one in encoded]
    few = -(-sum(lengths) // longest)
    for count in range(few, len(lengths)):
        found = [[encoded[place] for place in row] for row in dealt(lengths, count)]
        if max(tokens(row) for row in found) <= longest:
            return found
    return [[one] for one in encoded]


def fill(row: Sequence[Encoded], longest: int, pad_id: int) -> list[Encoded]:
    """Return the padding behind a row, without images and nothing to learn; none of a full one."""
    import torch

    step = -(-longest // NUM_LENGTHS)
    missing = min(longest, -(-tokens(row) // step) * step) - tokens(row)
    if not missing:
        return []
    ids = torch.full((missing,), pad_id)
    names = {name: torch.zeros_like(ids) for name in row[0].tokens}
    names |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return [Encoded(names, torch.full_like(ids, IGNORED), {}, cut=False)]


def tokens(row: Sequence[Encoded]) -> int:
    """Return the tokens of a row."""
    return sum(len(one.labels) for one in row)
