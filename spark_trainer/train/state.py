"""What a checkpoint holds: all that a run needs to go on as if it had never stopped.

    trainable.safetensors       the weights that learn, whole whoever held them
    optimizer*.safetensors      the optimizer, or each process's share; DeepSpeed's in a folder
    average.safetensors         the moving average, where there is one
    random_<process>.safetensors  the states of the random generators
    step.json                   the update, the run's progress, the schedule

Tensors and plain values only: nothing in it can run code.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spark_trainer.data.files import read_json
from spark_trainer.errors import MachineError
from spark_trainer.runs.folder import RunFolder
from spark_trainer.system import log
from spark_trainer.train import checkpoints, nest, optim
from spark_trainer.train.nest import Snapshot
from spark_trainer.train.progress import Progress
from spark_trainer.train.strategies.base import WEIGHTS, Strategy
from spark_trainer.train.writer import Pending, Writer

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel

AVERAGE = "average.safetensors"


@dataclass
class State:
    """The parts of a run that change from update to update."""

    strategy: Strategy
    folder: RunFolder
    run_id: str  # whose checkpoints it reads and writes
    schedule: torch.optim.lr_scheduler.LRScheduler
    average: "EMAModel | None"
    writer: Writer = field(init=False)

    def __post_init__(self) -> None:
        accelerator = self.strategy.accelerator
        places = accelerator.process_index, accelerator.num_processes
        self.writer = Writer.of_this_process(*places)

    def save(self, step: int, progress: Progress) -> None:
        """Copy all that a checkpoint holds, and begin to write it. All must call it.

        Waits for the checkpoint before; whatever goes wrong leaves the last whole one.

        Raises:
            MachineError: one can't be written; the message names it and the one that is kept.
        """
        self.writer.wait()
        try:
            files = self._snapshot(self.folder.checkpoints / checkpoints.WRITING)
        except (OSError, MachineError) as error:
            raise checkpoints.abandon(self.folder, step, error) from None
        best = self.folder.checkpoint(progress.best_step or 0)
        facts, keep = self._facts(step, progress), self.strategy.run.keep_checkpoints
        self.writer.start(Pending(self.folder, self.run_id, step, files, facts, best, keep))

    def _snapshot(self, temporary: Path) -> dict[Path, Snapshot]:
        """Return this process's files of a checkpoint in an empty folder."""
        accelerator = self.strategy.accelerator
        if accelerator.is_main_process:
            checkpoints.begin(self.folder)
        accelerator.wait_for_everyone()
        learnt = self.strategy.trainable_state_dict()
        files = self.strategy.snapshot(temporary)
        files[_random(temporary, accelerator.process_index)] = Snapshot.of(_draws())
        if accelerator.is_main_process:
            files[temporary / WEIGHTS] = Snapshot(learnt)
            if self.average:
                files[temporary / AVERAGE] = Snapshot.of(self.average.state_dict())
        return files

    def _facts(self, step: int, progress: Progress) -> dict[str, Any]:
        scaler = self.strategy.accelerator.scaler
        return {
            "step": step,
            "progress": progress.written(),
            "shares": self.strategy.optimizer_layout,
            "moved": self.schedule.last_epoch,
            "scaler": scaler.state_dict() if scaler else None,
        }

    def resume(self) -> tuple[int, Progress]:
        """Load the newest whole checkpoint; returns its update and the run's progress.

        -1 where there is none.

        Raises:
            ValueError: its optimizer is shared out otherwise than this run's.
        """
        found: list[Any] = [None]
        if self.strategy.accelerator.is_main_process:
            found = [checkpoints.newest(self.folder, self.run_id, log.logger.warning)]
        if torch.distributed.is_initialized():
            torch.distributed.broadcast_object_list(found)
        if found[0] is None:
            return -1, Progress()
        saved = self.load(found[0])
        return saved["step"], Progress.read(saved["progress"])

    def load(self, checkpoint: Path) -> dict[str, Any]:
        """Go on from a checkpoint; returns what its `step.json` says. All must call it."""
        saved: dict[str, Any] = read_json(checkpoint / checkpoints.STEP)
        layout = self.strategy.optimizer_layout
        if saved["shares"] != layout:
            raise ValueError(
                f"{checkpoint}: written by {saved['shares']}, this run is {layout}; go "
                f"on as it was written, or delete {self.folder.checkpoints} to begin anew"
            )
        accelerator = self.strategy.accelerator
        self.strategy.load(checkpoint)
        if self.average:
            self.average.load_state_dict(nest.load(checkpoint / AVERAGE))
            self.average.to(accelerator.device)
        if accelerator.scaler:
            accelerator.scaler.load_state_dict(saved["scaler"])
        optim.move(self.schedule, saved["moved"])
        return saved

    def draw_on(self, step: int) -> None:
        """Let chance go on where it was at a checkpoint; the last thing before the next update.

        With more processes than before those that were none have states of their own.
        """
        drawn = _random(self.folder.checkpoint(step), self.strategy.accelerator.process_index)
        if drawn.exists():
            _draw_as(nest.load(drawn))


def _random(checkpoint: Path, process: int) -> Path:
    return checkpoint / f"random_{process}.safetensors"


def _draws() -> dict[str, Any]:
    """Return the states of this process's random generators."""
    numbers: dict[str, Any] = np.random.get_state(legacy=False)  # type: ignore[assignment]
    inner = numbers["state"] | {"key": numbers["state"]["key"].tolist()}
    return {
        "python": random.getstate(),
        "numpy": numbers | {"state": inner},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _draw_as(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    inner = states["numpy"]["state"]
    key = np.array(inner["key"], dtype=np.uint32)
    np.random.set_state(states["numpy"] | {"state": inner | {"key": key}})
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
