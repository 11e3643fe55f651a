"""Supervised training: the loss is that of what the manifest says of each sample."""

from typing import TYPE_CHECKING, Any

from spark_trainer.families.kinds.batch import Batch
from spark_trainer.methods.base import Method, Update

if TYPE_CHECKING:
    import torch


class Supervised(Method):
    """Takes batches as they are read; the loss, held out too, is the family's own."""

    model_types = ("vision_language", "diffusion", "asr")

    def prepare(self, model: Any, update: Update) -> list[Batch]:
        """Return the batches as they were read."""
        return update.batches

    def loss(self, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the family's losses."""
        return self.family.loss(self.loaded, model, batch)

    def held_out(self, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the family's losses."""
        return self.family.loss(self.loaded, model, batch)
