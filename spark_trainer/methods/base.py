"""What a method of training decides: what an update makes of its samples, and what is better.

An update asks in this order: `prepare` turns what was read into batches, and may use the live model
to do so; then the targets of all batches and processes are counted; then each batch goes through
`loss`, whose sum is divided by that count. A method that generates answers and scores them does so
in `prepare`, and says that it `generates`. Where each process holds a part of the weights, all of
them have to call the network equally often, which generating doesn't: it does so in
`Update.gathered`, and is evaluated in the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from spark_trainer.config import Run
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.data.samples import Check
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.generated import Generated
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.families.kinds.reading import Reader, ReadResult, Splits
from spark_trainer.metrics.objective import HELD_OUT_LOSS, Objective

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Update:
    """What a method is told of the update that it prepares.

    Attributes:
        number: from 1.
        read: what this process read for it; nothing where a method makes several updates of that.
        reader: what reads further samples.
        process: the number of this process, from 0.
        processes: how many there are.
        over_all: gives the sum of a tensor over all processes, which must call it alike.
        gathered: enters with all weights in this process, which then calls the network as often as
            it likes; all processes must enter it.
    """

    number: int
    read: Sequence[ReadResult]
    reader: Reader
    process: int
    processes: int
    over_all: "Callable[[torch.Tensor], torch.Tensor]"
    gathered: Callable[[], AbstractContextManager[None]]

    @property
    def batches(self) -> list[Batch]:
        """Return all batches that were read."""
        return [batch for result in self.read for batch in result.batches]


@dataclass(frozen=True)
class Method(ABC):
    """How a family learns in one run.

    Attributes:
        model_types: values of `train.model_type` that choose this method.
        objective: what decides which update is best.
        generates: whether it calls the network as often as it happens to generate.
        run: the settings.
        family: the checkpoint's family.
        loaded: its model, as it was loaded, and what feeds it.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    objective: ClassVar[Objective] = HELD_OUT_LOSS
    generates: ClassVar[bool] = False
    run: Run
    family: Kind
    loaded: Loaded

    @classmethod
    def check(cls, run: Run, family: Kind) -> None:
        """Stop before weights are loaded where the family can't learn by this method.

        Raises:
            ValueError: the message names the setting and what was expected.
        """
        return

    @classmethod
    def reference_check(cls, run: Run) -> Check | None:
        """Return what looks whether a sample's reference can be used; None where any can.

        Raises:
            UserError: the settings can't be used.
            MachineError: a file can't be read.
        """
        return None

    @classmethod
    def check_services(cls, run: Run) -> None:
        """Look, before weights are loaded, whether a server is there that the run asks.

        Raises:
            UserError: it is none that the run can use.
            MachineError: it doesn't answer.
        """
        return

    @property
    def updates_per_read(self) -> int:
        """Return how many updates are made of what is read once."""
        return 1

    @property
    def keeps_start(self) -> bool:
        """Tell whether the weights of the start stay beside those that learn."""
        return False

    def generating_bytes(self, largest: Batch) -> int:
        """Return what generating in an update takes of memory beside the weights, in bytes.

        Args:
            largest: the batch that is learnt of it.
        """
        return 0

    def begin(self, held: "Callable[[], list[torch.Tensor]]") -> None:
        """Take note of the weights of the start, before a checkpoint is loaded.

        Args:
            held: gives what this process holds of each parameter that learns, in the same memory.
        """
        return

    def readers(
        self, splits: Splits, device: "torch.device", kept: EncodedFiles
    ) -> tuple[Reader, Reader]:
        """Return what reads the training and the held-out split; see `Kind.readers`."""
        return self.family.readers(self.loaded, splits, self.run, device, kept)

    @abstractmethod
    def prepare(self, model: Any, update: Update) -> list[Batch]:
        """Return the batches of an update; nothing of them is counted yet.

        Args:
            model: the network in training, unwrapped, in training mode: one that generates is put
                in `eval()` for it, and back.
            update: what this process read for the update, and what else is known of it.
        """

    @abstractmethod
    def loss(self, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the losses of the batch's targets, with a gradient.

        A batch without targets only keeps this process in step with the others.
        """

    @abstractmethod
    def held_out(self, model: Any, batch: Batch) -> "torch.Tensor":
        """Return the sum of the objective over the targets of a held-out batch."""

    def metrics(self, update: Update) -> dict[str, float]:
        """Return what is recorded of an update beside its loss, after all its batches.

        All processes call it, and get the same.

        Raises:
            UserError: it is no use to go on.
        """
        return {}

    def remembered(self) -> dict[str, float]:
        """Return what a checkpoint has to keep of the updates up to now."""
        return {}

    def recall(self, values: dict[str, float]) -> None:
        """Go on from what a checkpoint has kept; nothing where a run begins."""
        return

    def show(self, model: Any, samples: Iterable[Any]) -> Iterator[Generated]:
        """Yield what the model makes of held-out samples; see `Kind.show`."""
        return self.family.show(self.loaded, model, samples, self.run)

    def learnt(self) -> Iterator[Generated]:
        """Yield a few of the answers that the last update learnt from, where a method draws any."""
        return iter(())

    def scores(self, shown: list[dict[str, Any]]) -> dict[str, float]:
        """Return metrics of what was shown; see `Kind.scores`."""
        return self.family.scores(shown, self.run)
