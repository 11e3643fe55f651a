"""Operations on each sample of a batch by itself: random numbers, factors, means.

Every sample has its own generator, so its random numbers depend neither on the other samples of its
batch nor on the number of processes. Generators seeded by the sample alone make held-out losses of
runs comparable. Generators are on the CPU: they give the same numbers for every device.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, device


def normal(generators: Sequence[Generator], shape: Sequence[int], where: device) -> Tensor:
    """Draw normal numbers (batch, *shape) in float32."""
    drawn = [torch.randn(tuple(shape), generator=generator) for generator in generators]
    return torch.stack(drawn).to(where)


def uniform(generators: Sequence[Generator], where: device) -> Tensor:
    """Draw a number from 0 to below 1 for each sample, (batch,)."""
    return torch.stack([torch.rand((), generator=generator) for generator in generators]).to(where)


def integers(generators: Sequence[Generator], low: int, high: int, where: device) -> Tensor:
    """Draw a whole number from `low` to below `high` for each sample, (batch,)."""
    drawn = [torch.randint(low, high, (), generator=generator) for generator in generators]
    return torch.stack(drawn).to(where)


def spread(values_B: Tensor, like: Tensor) -> Tensor:
    """Reshape a value for each sample to (batch, 1, 1, ...), with the dimensions of `like`."""
    return values_B.reshape(-1, *[1] * (like.ndim - 1))


def mean_square(one: Tensor, other: Tensor) -> Tensor:
    """Compute each sample's mean of squared differences (batch,), in float32 or better."""
    wide = torch.promote_types(one.dtype, torch.float32)
    return (one.to(wide) - other.to(wide)).square().flatten(1).mean(1)
