"""Noise and targets are upstream's scheduler's."""

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


def test_the_loss_is_each_samples_mean_square(drawn: list[torch.Tensor]) -> None:
    output, x0, noise = drawn
    alpha = torch.tensor([0.999, 0.5, 0.01])
    root, rest = alpha.sqrt().reshape(3, 1, 1), (1 - alpha).sqrt().reshape(3, 1, 1)
    for prediction, wanted in (("epsilon", noise), ("v_prediction", root * noise - rest * x0)):
        expected = (output - wanted).square().flatten(1).mean(1)
        loss = noise_prediction.loss(output, x0, noise, alpha, prediction)
        torch.testing.assert_close(loss, expected)
