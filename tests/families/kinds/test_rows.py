"""Rows hold each sample once, none is too long, and their lengths are few."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_trainer.families.kinds import rows
from spark_trainer.families.kinds.batch import IGNORED, Encoded

LONGEST = 1000


def sample(number: int, length: int) -> Encoded:
    ids = torch.full((length,), number)
    return Encoded({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ids, {}, False)


@settings(deadline=None)
@given(st.lists(st.integers(1, LONGEST), min_size=1, max_size=40))
def test_each_sample_is_in_one_row_that_has_room_for_it(lengths: list[int]) -> None:
    samples = [sample(number, length) for number, length in enumerate(lengths)]
    dealt = rows.dealt_out(samples, LONGEST)
    numbers = [int(one.labels[0]) for row in dealt for one in row]
    assert sorted(numbers) == list(range(len(lengths)))
    assert 0 < max(map(rows.tokens, dealt)) <= LONGEST
    assert len(dealt) <= 2 * sum(lengths) / LONGEST + 1
    wholes = [[*row, *rows.fill(row, LONGEST, 7)] for row in dealt]
    assert {rows.tokens(whole) for whole in wholes} <= set(range(63, LONGEST, 63)) | {LONGEST}


def test_nothing_is_learnt_of_what_fills_a_row() -> None:
    [padding] = rows.fill([sample(3, 60)], LONGEST, 7)
    assert padding.labels.tolist() == [IGNORED] * 3
    assert padding.tokens["input_ids"].tolist() == [7] * 3
    assert not rows.fill([sample(3, 63)], LONGEST, 7)
