"""The only training loop: it knows a family's verbs and no model."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from spark_trainer import log
from spark_trainer.config import Run
from spark_trainer.errors import Stopped
from spark_trainer.families import Family, Loaded
from spark_trainer.train import (
    checkpoints,
    data,
    evaluation,
    finish,
    optim,
    setup,
    stop,
    strategies,
)
from spark_trainer.train.setup import TrainingError
from spark_trainer.train.state import State
from spark_trainer.train.tracking import Tracker
from spark_trainer.train.updates import Updates

COUNTS = ("seen", "skipped", "cut")  # samples since the first update


@dataclass
class Trainer:
    """One process of one run."""

    folder: Path
    run: Run
    order: dict[str, Any]
    accelerator: Accelerator
    family: Family
    loaded: Loaded
    training: data.Reader
    validation: data.Reader
    asked: stop.Asked | None = None  # whether to stop; never without one
    progress: dict[str, float] = field(default_factory=dict)  # kept in checkpoints
    saved: int = -1  # update of the newest checkpoint
    taken: data.Ahead | None = None  # samples

    def train(self) -> None:
        """Train to the last update, from the newest checkpoint where there is one.

        Raises:
            Stopped: it was asked to; the update that it was at is finished and saved.
        """
        step, total = self._prepare()
        sampler = self._sampler(step)
        pin = self.accelerator.device.type == "cuda"
        self.taken = data.training(self.training, sampler, self.run.num_workers, pin)
        with contextlib.closing(self.taken):
            step = self._updates_to(total, step, sampler.num_batches)
        finish.finish(self, step)

    def _updates_to(self, total: int, step: int, num_calls: int) -> int:
        """Make the updates after one; returns the number of the last one that is due."""
        assert self.taken
        if not self._evaluated(step, total):
            self._stop(step, total)
        if step == 0 and self.saved < 0 and self.run.final == "best":
            self._checkpoint(0)
        if self.saved >= 0:
            self.state.draw_on(self.saved)
        with log.progress("train", total - step, "step") as advance:
            while step < total and not self._stale():
                step += 1
                stopping = self._update(step, self.taken, num_calls)
                if stopping or not self._evaluated(step, total):
                    self._stop(step, total)
                best = step == self.progress.get("best_step")
                if best or step % self.run.checkpoint_steps == 0:
                    self._checkpoint(step)
                advance()
        if step < total:
            text = "stopped early at update %d of %d: no lower held-out loss since update %d"
            log.logger.info(text, step, total, int(self.progress["best_step"]))
        self._checkpoint(step)
        return step

    def _prepare(self) -> tuple[int, int]:
        """Everything around the model; returns the update to go on from and the last one."""
        run, accelerator = self.run, self.accelerator
        sampler = self._sampler(0)
        epochs = run.num_epochs * len(self.training.samples)
        total = run.max_steps or math.ceil(epochs / sampler.update_size)
        if run.compile:
            self.loaded.model.compile()
        self.strategy = strategies.of(run)(run, accelerator)
        schedules = []

        def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
            made = optim.optimizer(model, run)
            schedules.append(optim.schedule(made, run, total))
            return made

        self.model = self.strategy.prepare(self.loaded.model.train(), optimizer)
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        self.ema = optim.average(self.weights, run)
        [self.schedule] = schedules
        folder = self.folder / "checkpoints"
        self.state = State(self.strategy, folder, self.order["seal"], self.schedule, self.ema)
        self.saved, self.progress = self.state.resume()
        self.progress = self.progress or dict.fromkeys(COUNTS, 0.0) | {"evaluated": -1}
        self.updates = Updates(
            self.strategy,
            self.training,
            self.model,
            self.weights,
            self.schedule,
            self.ema,
            self.progress,
            self._stopping,
        )
        self.tracker = None
        if accelerator.is_main_process:
            self.tracker = Tracker(self.folder, self.saved, run.wandb_project)
        return self._begun(max(0, self.saved), total), total

    def _begun(self, step: int, total: int) -> int:
        """Say where the run begins or goes on."""
        if step > total:
            raise TrainingError(
                f"train.num_epochs, train.max_steps: {total} updates in all, but "
                f"{self.order['continued']} is at {step} already"
            )
        text = "resumed at update %d of %d"
        log.logger.info(text if self.saved >= 0 else "started at update %d of %d", step, total)
        if self.run.warmup_steps >= total:
            text = "train.warmup_steps: %d of %d updates in all: the learning rate stays below %g"
            log.logger.warning(text, self.run.warmup_steps, total, self.run.learning_rate)
        if self.order.get("continued"):
            text = "continues %s by a %s schedule over %d updates: the learning rate is now %.4g"
            rate = float(self.schedule.get_last_lr()[0])
            log.logger.info(text, self.order["continued"], self.run.schedule, total, rate)
        return step

    def _evaluated(self, step: int, total: int) -> bool:
        """Evaluate where that is due at an update; False if it was asked to stop meanwhile."""
        due = step % self.run.eval_steps == 0 or step == total
        if not due or self.progress["evaluated"] == step or not self.run.holds_out:
            return True
        return self._evaluate(step)

    def _stop(self, step: int, total: int) -> None:
        """Save where the run is, and end.

        Raises:
            Stopped: always.
        """
        if step > 0:
            self._checkpoint(step)
        if self.tracker:
            self.tracker.close()
        if self.saved >= 0:
            where = f"stopped at update {step} of {total}, checkpoint {self.saved} is saved"
            raise Stopped(f"{where}; the same command goes on from there", self._status())
        text = "stopped before the first update; the same command begins again"
        raise Stopped(text, self._status())

    def _status(self) -> int:
        """Return the exit status of a process that this signal ends."""
        number = self.asked.number if self.asked else 0
        return stop.STATUS[number or stop.SIGNALS[0]]

    def _stopping(self) -> int:
        """Whether this process was asked to stop."""
        return int(bool(self.asked and self.asked.number))

    def _sampler(self, updates_done: int) -> data.DistributedBatchSampler:
        return data.DistributedBatchSampler(
            self.run.samples_per_update,
            self.run.batch_size,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.run.seed,
            self.run.bucketing,
            updates_done,
        )

    def _update(self, step: int, taken: Iterator[data.Taken], num_calls: int) -> bool:
        """Make an update and record it; returns whether a process was asked to stop."""
        values, stopping = self.updates.make(step, taken, num_calls)
        self._track(step, values)
        return stopping

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The moving average in place of the weights, where there is one."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.weights)
        self.ema.copy_to(self.weights)
        try:
            yield
        finally:
            self.ema.restore(self.weights)

    def _evaluate(self, step: int) -> bool:
        """Held-out loss over every validation sample, and what is made of a fixed few.

        Returns:
            False if a process was asked to stop: then nothing of it counts.
        """
        accelerator, stopping = self.accelerator, self._stopping
        with self.averaged():
            values = evaluation.held_out_loss(
                self.strategy, self.model, self.validation, self.run, stopping
            )
            if values is not None and not math.isfinite(values["held_out_loss"]):
                raise TrainingError(f"the held-out loss is no number at step {step}")
            if values is not None and (self.tracker or self.strategy.shards_weights):
                model = accelerator.unwrap_model(self.model)
                # Those that take part together can't leave off one by one.
                alone = (lambda: 0) if self.strategy.shards_weights else stopping
                with self.strategy.gather_root():
                    values |= evaluation.show(
                        model, self.validation, self.run, self.tracker, step, alone
                    )
        self.model.train()
        stopped = torch.tensor([stopping()], device=accelerator.device)
        if values is None or int(accelerator.reduce(stopped)):
            return False
        self._track(step, values)
        self._note(step, values)
        return True

    def _note(self, step: int, values: dict[str, float]) -> None:
        """Remember what an evaluation found."""
        loss = values["held_out_loss"]
        self.progress |= {"first": loss} | self.progress | values | {"evaluated": step}
        if loss < self.progress.get("best", math.inf):
            self.progress |= {"best": loss, "best_step": step, "stale": 0}
        else:
            self.progress["stale"] += 1

    def _stale(self) -> bool:
        """Whether the held-out loss has not got better for long enough to stop."""
        patience = self.run.early_stopping
        return patience is not None and self.progress["stale"] >= patience

    def _track(self, step: int, values: dict[str, float]) -> None:
        if self.tracker:
            self.tracker.write(step, values)

    def _checkpoint(self, step: int) -> None:
        if self.updates.bad_losses or step == self.saved:
            return  # the checkpoint before is worth more than weights that are no numbers
        self.state.save(step, self.progress)
        self.saved = step
        if self.accelerator.is_main_process:
            best = checkpoints.path(self.state.folder, int(self.progress.get("best_step", 0)))
            checkpoints.rotate(self.state.folder, self.run.keep_checkpoints, best)


def prepare(folder: Path, asked: stop.Asked | None = None) -> Trainer:
    """Read a run folder and build its trainer.

    Raises:
        TrainingError: the processes, device or precision are not those that were asked for.
        ValueError: the checkpoint is of no known family, or a part of the data is empty.
    """
    run, order, accelerator = setup.accelerator(folder)
    parts = setup.parts(folder, Path(order["data_root"]), run, setup.find(run))
    family, loaded = setup.model(run)
    device = accelerator.device
    training, validation = setup.readers(parts, order, run, family, loaded, device)
    return Trainer(folder, run, order, accelerator, family, loaded, training, validation, asked)
