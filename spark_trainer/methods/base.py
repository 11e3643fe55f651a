"""What a method of training decides: what an update makes of its samples, and what is better.

An update asks in this order: `prepare` turns what was read into batches, and may use the live model
to do so; then the targets of all batches and processes are counted; then each batch goes through
`loss`, whose sum is divided by that count. A method that generates answers and scores them does so
in `prepare`. Where each process holds a part of the weights, all of them have to call the network
equally often, which generating doesn't.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from spark_trainer.config import Run
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.generated import Generated
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.families.kinds.reading import Reader, ReadResult, Splits
from spark_trainer.metrics.objective import HELD_OUT_LOSS, Objective

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Method(ABC):
    """How a family learns in one run.

    Attributes:
        model_types: values of `train.model_type` that choose this method.
        objective: what decides which update is best.
        run: the settings.
        family: the checkpoint's family.
        loaded: its model, as it was loaded, and what feeds it.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    objective: ClassVar[Objective] = HELD_OUT_LOSS
    run: Run
    family: Kind
    loaded: Loaded

    def readers(
        self, splits: Splits, device: "torch.device", kept: EncodedFiles
    ) -> tuple[Reader, Reader]:
        """Return what reads the training and the held-out split; see `Kind.readers`."""
        return self.family.readers(self.loaded, splits, self.run, device, kept)

    @abstractmethod
    def prepare(self, model: Any, read: Sequence[ReadResult]) -> list[Batch]:
        """Return the batches of an update; nothing of them is counted yet.

        Args:
            model: the network in training, unwrapped, in training mode: one that generates is put
                in `eval()` for it, and back.
            read: what this process read for the update.
        """

    @abstractmethod
    def loss(self, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the losses of the batch's targets, with a gradient."""

    @abstractmethod
    def held_out(self, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the objective over the targets of a held-out batch."""

    def show(self, model: Any, samples: Iterable[Any]) -> Iterator[Generated]:
        """Yield what the model makes of held-out samples; see `Kind.show`."""
        return self.family.show(self.loaded, model, samples, self.run)

    def scores(self, shown: list[dict[str, Any]]) -> dict[str, float]:
        """Return metrics of what was shown; see `Kind.scores`."""
        return self.family.scores(shown, self.run)
