"""Tokens come as often as their probability says, from numbers that are always the same."""

import torch

from spark_trainer.rollouts import drawing


def test_numbers_depend_on_the_key_and_the_place_alone() -> None:
    two = drawing.numbers(["1:7:0", "1:7:1"], 5)
    torch.testing.assert_close(drawing.numbers(["1:7:1"], 9)[0, :5], two[1], rtol=0, atol=0)
    assert len({*two.flatten().tolist()}) == 10


def test_numbers_are_evenly_spread() -> None:
    many = drawing.numbers([str(key) for key in range(64)], 256).flatten()
    assert many.min() >= 0
    assert many.max() < 1
    shares = torch.histc(many, bins=8, min=0, max=1) / len(many)
    assert (shares - 1 / 8).abs().max() < 0.01


def test_a_token_is_drawn_as_often_as_it_is_likely() -> None:
    """The forbidden one never is, not even by the ends of the range."""
    shares = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    numbers = drawing.numbers(["any"], 20_000)[0]
    numbers[:2] = torch.tensor([0.0, 1 - 2.0**-drawing.BITS], dtype=torch.float64)
    found = drawing.picked(shares.log().expand(len(numbers), -1), numbers)
    assert found[:2].tolist() == [1, 4]
    counts = torch.bincount(found, minlength=6) / len(found)
    assert counts[shares == 0].sum() == 0
    torch.testing.assert_close(counts, shares, rtol=0, atol=0.01)
