"""What each sample of a batch has of its own: random numbers, a factor, a mean.

Every sample brings its own generator, so what is drawn for it depends neither on who else is in its
batch nor on the number of processes; a generator seeded by the sample alone makes a held-out loss
that runs can be compared by. Generators are on the CPU: the same numbers for every device.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, device


def normal(generators: Sequence[Generator], shape: Sequence[int], where: device) -> Tensor:
    """Normal numbers (batch, *shape) in float32."""
    drawn = [torch.randn(tuple(shape), generator=generator) for generator in generators]
    return torch.stack(drawn).to(where)


def uniform(generators: Sequence[Generator], where: device) -> Tensor:
    """One number (batch,) from 0 to below 1 each."""
    return torch.stack([torch.rand((), generator=generator) for generator in generators]).to(where)


def integers(generators: Sequence[Generator], low: int, high: int, where: device) -> Tensor:
    """One whole number (batch,) from `low` to below `high` each."""
    drawn = [torch.randint(low, high, (), generator=generator) for generator in generators]
    return torch.stack(drawn).to(where)


def spread(values_B: Tensor, like: Tensor) -> Tensor:
    """One value a sample (batch, 1, 1, ...) with as many dimensions as `like`."""
    return values_B.reshape(-1, *[1] * (like.ndim - 1))


def mean_square(one: Tensor, other: Tensor) -> Tensor:
    """Mean of the squared differences of each sample (batch,), in float32 or better."""
    wide = torch.promote_types(one.dtype, torch.float32)
    return (one.to(wide) - other.to(wide)).square().flatten(1).mean(1)
