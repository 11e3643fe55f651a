"""Several processes see what one would see."""

from itertools import islice

import pytest

from spark_trainer.train.data import Share


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shares_of_a_batch_make_the_whole(world: int) -> None:
    whole = Share(batch_size=8, rank=0, world=1, seed=0, start=0).batches(20)
    shares = [Share(8 // world, rank, world, seed=0, start=0).batches(20) for rank in range(world)]
    for batch in islice(whole, 7):
        assert [number for share in shares for number in next(share)] == batch


def test_a_share_continues_where_it_stopped() -> None:
    whole = list(islice(Share(3, 0, 1, seed=0, start=0).batches(10), 12))
    assert list(islice(Share(3, 0, 1, seed=0, start=5).batches(10), 7)) == whole[5:]
