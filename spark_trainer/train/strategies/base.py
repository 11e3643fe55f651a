"""What the loop asks of a strategy; it knows none of them by name."""

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch._C._distributed_c10d import FileStore

from spark_trainer.config import Run
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.train.nest import Snapshot
from spark_trainer.train.topology import STORE_VARIABLE

WEIGHTS = "trainable.safetensors"  # in a checkpoint, whole

Context = contextlib.AbstractContextManager[Any]
# How long processes wait for one that works alone, as where it writes 60 GB of a merged
# Wan2.2-Animate to a slow disk; NCCL's ten minutes are too few for that. Where a process has died
# the others end within seconds, whatever stands here.
TIMEOUT = timedelta(hours=2)
MakeOptimizer = Callable[[torch.nn.Module], torch.optim.Optimizer]


class Strategy(ABC):
    """One way to spread a model over the processes of a run."""

    NAME: ClassVar[str]
    lockstep: ClassVar[bool]  # all processes must make the same number of passes in an update

    def __init__(self, run: Run, accelerator: Accelerator) -> None:
        self.run, self.accelerator = run, accelerator

    @classmethod
    def make_accelerator(cls, run: Run, launched: LaunchedRun) -> Accelerator:
        """Return the processes and devices of a run; `setup` checks that they are as asked.

        Args:
            run: the settings.
            launched: the device and the number of processes.
        """
        on_cpu = launched.device == "cpu"
        join_process_group("gloo" if on_cpu else "nccl")
        return Accelerator(
            mixed_precision=run.mixed_precision,
            cpu=on_cpu,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT), *cls.handlers(run)],
        )

    @classmethod
    def handlers(cls, run: Run) -> list[Any]:
        """Return Accelerate's further settings."""
        return []

    @property
    def shards_weights(self) -> bool:
        """Tell whether the processes must make the same passes in an evaluation, too.

        Not in `gathered`.
        """
        return False

    @property
    @abstractmethod
    def optimizer_layout(self) -> str:
        """Tell how the optimizer of a checkpoint is cut up; only the same can go on from it."""

    @abstractmethod
    def is_active(self) -> bool:
        """Tell whether the processes are what was asked for."""

    def prepare(self, model: Any, make_optimizer: MakeOptimizer) -> Any:
        """Return the model as the loop calls it; `make_optimizer` makes its optimizer."""
        self.model, self.optimizer = self.accelerator.prepare(model, make_optimizer(model))
        return self.model

    @abstractmethod
    def autocast(self) -> Context:
        """Enter the precision of a forward pass."""

    @abstractmethod
    def accumulate(self, last: bool) -> Context:
        """Enter a forward and a backward pass; an update's last one exchanges gradients."""

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add the gradients of a loss to those of the update; they are averaged over processes."""
        self.accelerator.backward(loss)

    @abstractmethod
    def step(self, weights: list[torch.Tensor]) -> tuple[float, bool]:
        """Clip the gradients, update the weights, drop the gradients.

        Returns:
            the norm of the gradients before clipping, and whether the weights moved.
        """

    def num_passes(self, num_batches: int) -> int:
        """Return how many passes this process has to make in an update of so many batches."""
        return num_batches

    def padded_batches(
        self, batches: Iterator[Batch], make_spare: Callable[[], Batch]
    ) -> Iterator[tuple[Batch, bool]]:
        """Yield this process's batches, each with whether it counts.

        Where weights are sharded, spare ones follow until no process has any of its own.
        """
        for batch in batches:
            yield batch, True

    @abstractmethod
    def gather_root(self) -> Context:
        """Enter with the weights of the outermost module itself, though it is not called.

        As BLIP-2's `generate` reads its query tokens.
        """

    def gathered(self) -> Context:
        """Enter with all weights in every process: no pass waits for another process.

        All processes must enter, and what each does there is its own. The weights must stay as
        they are; what was gathered is freed at the end.
        """
        return contextlib.nullcontext()

    def held(self, parameter: Any) -> torch.Tensor:
        """Return what this process keeps of a parameter, in the same memory; not in `gathered`."""
        kept: torch.Tensor = parameter.detach()
        return kept

    @abstractmethod
    def trainable_state_dict(self) -> dict[str, torch.Tensor]:
        """Return copies on the CPU of trainable parameters and buffers, whole; of tied ones one.

        All processes must call it; only the main one gets all of it.
        """

    def optimizer_bytes(self) -> list[int]:
        """Return what the optimizer's state takes in each process; all processes must call it."""
        held = sum(
            value.untyped_storage().nbytes()
            for values in self.optimizer_state().values()
            for value in values.values()
            if isinstance(value, torch.Tensor)
        )
        number = torch.tensor([held], device=self.accelerator.device)
        numbers: list[int] = self.accelerator.gather(number).tolist()
        return numbers

    def optimizer_state(self) -> dict[Any, dict[str, Any]]:
        """Return the optimizer's state in this process."""
        state: dict[Any, dict[str, Any]] = self.optimizer.state
        return state

    @abstractmethod
    def snapshot(self, folder: Path) -> dict[Path, Snapshot]:
        """Return this process's files that `load` needs beside `WEIGHTS`, as they are now.

        All processes must call it.

        Args:
            folder: where they will be written.
        """

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Go on from the files of a snapshot, and from `WEIGHTS`; all processes must call it."""


def join_process_group(backend: str) -> None:
    """Form the group of the processes of a single node, by a file: no port is opened for it."""
    variables = os.environ
    if STORE_VARIABLE not in variables or "RANK" not in variables:
        return
    rank, world = int(variables["RANK"]), int(variables["WORLD_SIZE"])
    if world != int(variables["LOCAL_WORLD_SIZE"]) or torch.distributed.is_initialized():
        return
    if backend == "nccl":
        torch.cuda.set_device(rank)
    store = FileStore(variables[STORE_VARIABLE], world)
    torch.distributed.init_process_group(
        backend, timeout=TIMEOUT, store=store, rank=rank, world_size=world
    )
