"""Continuous noise levels with a v-predicting network (Karras et al. 2022, arXiv:2206.00364).

    x = x0 + σ·ε        noised data
    D(x) = c_skip·x + c_out·F(c_in·x, c_noise)        F is the network

This is table 1 of the paper with data of standard deviation 1. c_out is negative, which makes F
predict v of Salimans and Ho (2022, arXiv:2202.00512), as stable-video-diffusion does
(Stability-AI/generative-models, denoiser_scaling.py VScalingWithEDMcNoise; diffusers,
scheduling_euler_discrete.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Generator, Tensor, device

from spark_trainer.losses.per_sample import mean_square, normal, spread


class Scales(NamedTuple):
    """The preconditioning at each sample's σ, all of shape (batch,)."""

    c_skip_B: Tensor
    c_out_B: Tensor
    c_in_B: Tensor
    c_noise_B: Tensor


def scales(sigma_B: Tensor) -> Scales:
    """Compute the preconditioning for noise levels above 0."""
    total_B = sigma_B.square() + 1
    return Scales(1 / total_B, -sigma_B / total_B.sqrt(), total_B.rsqrt(), sigma_B.log() / 4)


def sigmas(generators: Sequence[Generator], mean: float, std: float, where: device) -> Tensor:
    """Draw noise levels (batch,) whose logarithm is normal with this mean and deviation."""
    return (mean + std * normal(generators, (), where)).exp()


def noised(x0: Tensor, noise: Tensor, sigma_B: Tensor) -> Tensor:
    """Bring data to its noise level, in the shape of the data (batch, ...)."""
    return x0 + spread(sigma_B, x0) * noise


def scaled(x: Tensor, sigma_B: Tensor) -> Tensor:
    """Scale noised data as the network takes it: c_in·x."""
    return spread(scales(sigma_B).c_in_B, x) * x


def loss(output: Tensor, x0: Tensor, noise: Tensor, sigma_B: Tensor) -> Tensor:
    """Compute each sample's loss (batch,): the mean square of F - (x0 - c_skip·x) / c_out.

    That is the paper's λ(σ)·|D(x) - x0|² with λ = (1 + σ²) / σ², without the difference of almost
    equal numbers: with x = x0 + σ·ε the target is (ε - σ·x0) / √(1 + σ²).
    """
    sigma = spread(sigma_B, x0)
    return mean_square(output, (noise - sigma * x0) * (sigma.square() + 1).rsqrt())
