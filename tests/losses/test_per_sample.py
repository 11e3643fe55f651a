"""Random numbers belong to samples, not to batches."""

import torch

from spark_trainer.losses import per_sample

CPU = torch.device("cpu")


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_sample_draws_the_same_in_any_batch() -> None:
    one = per_sample.normal(seeded(2), (3, 4), CPU)
    together = per_sample.normal(seeded(1, 2), (3, 4), CPU)
    assert together.shape == (2, 3, 4)
    assert together[1:].equal(one)
    assert per_sample.uniform(seeded(1, 2), CPU)[1:].equal(per_sample.uniform(seeded(2), CPU))
    whole = per_sample.integers(seeded(*range(99)), 3, 6, CPU)
    assert set(whole.tolist()) == {3, 4, 5}


def test_the_mean_is_over_a_samples_elements_in_float32() -> None:
    one = torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]]], dtype=torch.bfloat16)
    means = per_sample.mean_square(one, torch.zeros(2, 1, 2))
    assert means.tolist() == [5.0, 0.0]
    assert means.dtype == torch.float32
    assert per_sample.spread(torch.ones(2), one).shape == (2, 1, 1)
