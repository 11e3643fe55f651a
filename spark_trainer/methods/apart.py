"""How far the log-probabilities that are learnt are from those that answers were drawn by."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_trainer.methods.base import Update

if TYPE_CHECKING:
    import torch

MEAN, MOST = "sampling/logp_difference", "sampling/logp_difference_max"


@dataclass
class Apart:
    """Counts differences of all tokens of an update, whatever is learnt of them."""

    _sums: "torch.Tensor | None" = None  # how many, their sum, and the largest

    def see(self, difference_T: "torch.Tensor") -> None:
        """Count some tokens, without waiting for their device."""
        import torch

        wide_T = difference_T.detach().double().abs()
        told = torch.stack([torch.ones_like(wide_T).sum(), wide_T.sum(), wide_T.max()])
        if self._sums is not None:
            largest = torch.maximum(told[2], self._sums[2])
            told = torch.cat([told[:2] + self._sums[:2], largest[None]])
        self._sums = told

    def take(self, update: Update, device: "torch.device") -> dict[str, float]:
        """Return the mean and the largest of all processes, and begin anew."""
        import torch

        each = torch.zeros(update.processes, 3, dtype=torch.float64, device=device)
        if self._sums is not None:
            each[update.process] = self._sums
        self._sums = None
        count, total, largest = zip(*update.over_all(each).tolist(), strict=True)
        return {MEAN: sum(total) / max(1, sum(count)), MOST: max(largest)}
