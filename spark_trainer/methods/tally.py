"""Means and spreads of what an update made of answers, over all processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spark_trainer.losses.advantages import spread

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Measured:
    """Mean and standard deviation of so many values."""

    count: float
    mean: float
    std: float


@dataclass
class Tally:
    """Counts, sums and sums of squares of values by name, until they are taken."""

    _sums: "dict[str, torch.Tensor]" = field(default_factory=dict)

    def add(self, name: str, values: "torch.Tensor", counts: "torch.Tensor | None" = None) -> None:
        """Count values of any shape, without waiting for their device.

        Args:
            name: of what they are.
            values: the values.
            counts: which of them count; without it all.
        """
        import torch

        wide = values.detach().double()
        kept = torch.ones_like(wide) if counts is None else counts.double()
        told = torch.stack([kept.sum(), (wide * kept).sum(), (wide.square() * kept).sum()])
        known = self._sums.get(name)
        self._sums[name] = told if known is None else known + told

    def add_all(self, name: str, values: Sequence[float], device: "torch.device") -> None:
        """Count plain numbers."""
        import torch

        self.add(name, torch.tensor(values, dtype=torch.float64, device=device))

    def take(
        self,
        names: Sequence[str],
        over_all: "Callable[[torch.Tensor], torch.Tensor]",
        device: "torch.device",
    ) -> dict[str, Measured]:
        """Return what was counted by all processes since the last time, and begin anew.

        Args:
            names: what may have been counted, alike in all processes.
            over_all: gives the sum over all processes.
            device: where that is computed.
        """
        import torch

        nothing = torch.zeros(3, dtype=torch.float64, device=device)
        own = torch.stack([self._sums.get(name, nothing) for name in names])
        self._sums = {}
        totals: list[list[float]] = over_all(own).tolist()
        return {
            name: Measured(count, total / count, spread(count, total, squares))
            for name, (count, total, squares) in zip(names, totals, strict=True)
            if count
        }
