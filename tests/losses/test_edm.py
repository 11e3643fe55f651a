"""The preconditioning is the paper's and upstream's sampler's."""

import diffusers
import pytest
import torch

from spark_trainer.losses import edm

SHAPE = (5, 2, 3, 4)


def denoised_by(output: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Give the data that the network's output stands for, D(x) of the paper."""
    at = edm.scales(sigma)
    skip, out = (value.reshape(-1, 1, 1, 1) for value in (at.c_skip_B, at.c_out_B))
    return skip * x + out * output


@pytest.fixture
def draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3)]
    return *drawn, torch.tensor([0.002, 0.1, 1.0, 30.0, 700.0], dtype=torch.float64)


def test_loss_is_the_weighted_error_of_the_denoised(
    draws: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    output, x0, noise, sigma = draws
    at = edm.scales(sigma)
    x = edm.noised(x0, noise, sigma)
    errors = (denoised_by(output, x, sigma) - x0).square().flatten(1).mean(1)
    weighted = (1 + sigma**2) / sigma**2 * errors
    loss = edm.loss(output, x0, noise, sigma)
    torch.testing.assert_close(loss, weighted)
    skip, out = (value.reshape(-1, 1, 1, 1) for value in (at.c_skip_B, at.c_out_B))
    form = (output - (x0 - skip * x) / out).square().flatten(1).mean(1)
    torch.testing.assert_close(loss, form)
    half = edm.loss(output.float(), x0.float(), noise.float(), sigma.float())
    torch.testing.assert_close(half.double(), loss, rtol=1e-5, atol=0)


def test_upstreams_sampler_has_the_same_scales(
    draws: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
    )
    scheduler.set_timesteps(5)
    output, x0, noise, _ = (tensor.float() for tensor in draws)
    sigma = scheduler.sigmas[:5]
    torch.testing.assert_close(edm.scales(sigma).c_noise_B, scheduler.timesteps)
    x = edm.noised(x0, noise, sigma)
    seen, denoised = edm.scaled(x, sigma), denoised_by(output, x, sigma)
    for row, timestep in enumerate(scheduler.timesteps):
        torch.testing.assert_close(scheduler.scale_model_input(x[row], timestep), seen[row])
        step = scheduler.step(output[row], timestep, x[row])
        torch.testing.assert_close(step.pred_original_sample, denoised[row], rtol=1e-4, atol=1e-4)


def test_noise_levels_are_log_normal() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in range(3000)]
    logs = edm.sigmas(generators, 0.7, 1.6, torch.device("cpu")).log()
    assert float(logs.mean()) == pytest.approx(0.7, abs=0.1)
    assert float(logs.std()) == pytest.approx(1.6, abs=0.1)
