"""Paths and levels are upstream's sampler's."""

import diffusers
import pytest
import torch

from spark_trainer.losses import flow_matching

CPU = torch.device("cpu")


def test_levels_are_the_samplers() -> None:
    """UniPC starts a hair below 1, where its own solver would divide by 0."""
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
    )
    scheduler.set_timesteps(20)
    even = torch.linspace(1, 0.001, 21)[:-1]
    ours = flow_matching.shifted(even, 5.0)
    torch.testing.assert_close(ours, scheduler.sigmas[:20], atol=1e-5, rtol=0)
    assert flow_matching.shifted(torch.tensor([0.0, 0.5, 1.0]), 5.0).tolist() == pytest.approx(
        [0, 5 / 6, 1]
    )
    assert flow_matching.shifted(even, 1.0).equal(even)


def test_the_levels_drawn_are_of_the_grid() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in range(200)]
    drawn = flow_matching.sigmas(generators, 4, 3.0, CPU)
    grid = flow_matching.shifted(torch.tensor([0.25, 0.5, 0.75, 1.0]), 3.0)
    assert set(drawn.tolist()) == set(grid.tolist())


def test_the_velocity_leads_to_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(2, 3, 4, generator=generator) for _ in range(2))
    sigma = torch.tensor([0.2, 0.9])
    x = flow_matching.noised(x0, noise, sigma)
    torch.testing.assert_close(x - sigma.reshape(2, 1, 1) * (noise - x0), x0)
    assert flow_matching.loss(noise - x0, x0, noise).tolist() == [0, 0]
    off = flow_matching.loss(noise - x0 + 2, x0, noise)
    torch.testing.assert_close(off, torch.tensor([4.0, 4.0]))
