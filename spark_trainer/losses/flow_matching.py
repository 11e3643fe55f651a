"""Straight paths from data to noise (Lipman et al. 2022, arXiv:2210.02747).

x_σ = (1 - σ)·x0 + σ·ε        the network predicts the velocity ε - x0
"""

from collections.abc import Sequence

from torch import Generator, Tensor, device

from spark_trainer.losses.per_sample import integers, mean_square, spread


def shifted(sigma_B: Tensor, shift: float) -> Tensor:
    """Move noise levels towards 1, for many pixels: shift·σ / (1 + (shift - 1)·σ).

    Esser et al. 2024, arXiv:2403.03206, section 5.3.2; diffusers, scheduling_unipc_multistep.py
    `flow_shift`.
    """
    return shift * sigma_B / (1 + (shift - 1) * sigma_B)


def sigmas(generators: Sequence[Generator], num_steps: int, shift: float, where: device) -> Tensor:
    """Draw noise levels (batch,): shifted points of an even grid 1/num_steps, ..., 1."""
    return shifted(integers(generators, 1, num_steps + 1, where) / num_steps, shift)


def noised(x0: Tensor, noise: Tensor, sigma_B: Tensor) -> Tensor:
    """Bring data to its noise level, in the shape of the data (batch, ...)."""
    sigma = spread(sigma_B, x0)
    return (1 - sigma) * x0 + sigma * noise


def loss(output: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
    """Compute each sample's loss (batch,): the mean square of the velocity's error."""
    return mean_square(output, noise - x0)
