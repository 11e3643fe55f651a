"""Noise and targets are upstream's scheduler's; weights are the paper's."""

import diffusers
import pytest
import torch

from spark_trainer.losses import noise_prediction

TIMESTEPS = torch.tensor([0, 500, 999])


@pytest.fixture
def drawn() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 2, 4, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_noise_and_targets_are_upstreams(schedule: str, drawn: list[torch.Tensor]) -> None:
    scheduler = diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule=schedule)
    _, x0, noise = drawn
    alpha = scheduler.alphas_cumprod[TIMESTEPS]
    torch.testing.assert_close(
        noise_prediction.noised(x0, noise, alpha), scheduler.add_noise(x0, noise, TIMESTEPS)
    )
    velocity = scheduler.get_velocity(x0, noise, TIMESTEPS)
    assert noise_prediction.target(x0, noise, alpha, "epsilon") is noise
    torch.testing.assert_close(noise_prediction.target(x0, noise, alpha, "v_prediction"), velocity)
    with pytest.raises(ValueError, match="'sample'; expected one of: epsilon, v_prediction"):
        noise_prediction.target(x0, noise, alpha, "sample")


def test_min_snr_weighs_the_same_error_alike_in_every_form(drawn: list[torch.Tensor]) -> None:
    """Both forms are min(snr, 5) times the squared error of x0."""
    output, x0, noise = (tensor.double() for tensor in drawn)
    alpha = torch.tensor([0.999, 0.5, 0.01], dtype=torch.float64)
    root, rest = alpha.sqrt().reshape(3, 1, 1), (1 - alpha).sqrt().reshape(3, 1, 1)
    x = noise_prediction.noised(x0, noise, alpha)
    snr = alpha / (1 - alpha)
    for prediction, guessed in (
        ("epsilon", (x - rest * output) / root),
        ("v_prediction", root * x - rest * output),
    ):
        expected = snr.clamp(max=5) * (guessed - x0).square().flatten(1).mean(1)
        loss = noise_prediction.loss(output, x0, noise, alpha, prediction, min_snr=5)
        torch.testing.assert_close(loss, expected)
    plain = noise_prediction.loss(output, x0, noise, alpha, "epsilon")
    torch.testing.assert_close(plain, (output - noise).square().flatten(1).mean(1))
