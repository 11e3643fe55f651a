"""What worker processes do: sample numbers in, batches out, and why a sample was left out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from spark_trainer.config import Run
from spark_trainer.data.sample import Unusable
from spark_trainer.data.samples import Samples
from spark_trainer.errors import of_machine, unexpected
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.system import log

if TYPE_CHECKING:
    import torch

MAX_REPLACEMENTS = 8  # samples tried in place of a batch of which none can be used
Splits = tuple[Any, Any]  # the kind's own data sets: to train on, and held out


class ReadResult(NamedTuple):
    """What one call for samples gave: batches, reasons of samples left out, and texts cut."""

    batches: list[Batch]
    reasons: list[str]
    cut: int


@dataclass(frozen=True)
class Reader(ABC):
    """Turns sample numbers into batches."""

    samples: Samples

    @abstractmethod
    def read(self, number: int) -> Any:
        """Return what a worker makes of a sample.

        Raises:
            Unusable: it can't be learnt from.
        """

    @abstractmethod
    def collated(self, read: list[Any]) -> list[Batch]:
        """Return batches of samples that go together."""

    def ready(self, batch: Batch, device: "torch.device") -> Batch:
        """Return the batch as the loss takes it, on its device; never called by a worker."""
        return batch.to(device)

    @abstractmethod
    def largest(self, run: Run) -> Batch:
        """Return the batch that takes the most memory of those that a run may meet."""

    def resident(self) -> "list[torch.nn.Module]":
        """List the frozen modules that are on the device while the network trains, beside it."""
        return []

    def prove(self) -> None:  # noqa: B027  # most readers have nothing that can't be used
        """Read something that every sample would do for.

        Raises:
            Exception: of any class, where the settings let no sample be read.
        """

    def __getitem__(self, numbers: Sequence[int]) -> ReadResult:
        made = self.without_replacement(numbers)
        reasons = made.reasons
        spare = range(numbers[-1] + 1, numbers[-1] + 1 + MAX_REPLACEMENTS)
        for number in spare:
            if made.batches:
                break
            # No batch may be empty: every process has to take part in every update.
            made = self._together([self._one(number, reasons)], reasons)
        return made

    def without_replacement(self, numbers: Sequence[int]) -> ReadResult:
        """Return batches of these samples and of no other."""
        reasons: list[str] = []
        return self._together([self._one(number, reasons) for number in numbers], reasons)

    def sample(self, number: int) -> Any:
        """Return a sample as it is shown and generated for; None where it can't be learnt from."""
        return None if self._one(number, []) is None else self.samples[number]

    def _one(self, number: int, reasons: list[str]) -> "_Read | None":
        """Return a sample, or None and note the reason."""
        try:
            return _Read(number, self.read(number))
        except Exception as error:
            reasons.append(self._reason(number, error))
            return None

    def _together(self, read: "Sequence[_Read | None]", reasons: list[str]) -> ReadResult:
        """Return batches of what can be put together; what can't is left out."""
        usable = [one for one in read if one is not None]
        if not usable:
            return ReadResult([], reasons, 0)
        cut = sum(getattr(one.made, "cut", False) for one in usable)
        try:
            return ReadResult(self.collated([one.made for one in usable]), reasons, cut)
        except Exception as error:
            if len(usable) == 1:
                reasons.append(self._reason(usable[0].number, error))
                return ReadResult([], reasons, 0)
        alone = [self._together([one], reasons) for one in usable]
        batches = [batch for result in alone for batch in result.batches]
        return ReadResult(batches, reasons, sum(result.cut for result in alone))

    def _reason(self, number: int, error: Exception) -> str:
        """Return why a sample is left out.

        Raises:
            OSError: the machine failed, which is no fault of the sample.
            MachineError: the same.
            ValueError: the settings let no sample be read.
        """
        if of_machine(error):
            raise error
        video = self.samples.video(number)
        if isinstance(error, Unusable):
            return str(error) if video in str(error) else f"video {video}: {error}"
        log.logger.error("video %s", video, exc_info=error)
        try:
            self.prove()
        except Unusable:
            pass
        except Exception as same:
            why = f"not even the simplest sample can be learnt from: {unexpected(same)}"
            raise ValueError(f"train.model_name: {why}") from same
        return f"video {video}: {unexpected(error)}"


class _Read(NamedTuple):
    """A sample's number, and what was read of it."""

    number: int
    made: Any
