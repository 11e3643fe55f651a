"""The only training loop: it knows a family's verbs and no model.

Started by `processes` as `python -m spark_trainer.train.loop <run folder>`, once per process.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from spark_trainer import log
from spark_trainer.config import Run
from spark_trainer.families import Batch, Family, Loaded
from spark_trainer.train import (
    checkpoints,
    data,
    evaluation,
    finish,
    flops,
    optim,
    setup,
    sharding,
    stop,
)
from spark_trainer.train.setup import TrainingError
from spark_trainer.train.state import State
from spark_trainer.train.stop import Stopped
from spark_trainer.train.tracking import Tracker, peak_memory_gb

COUNTS = ("seen", "skipped", "cut")  # samples since the first update
MAX_BAD_LOSSES = 3  # updates in a row whose loss is no number


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
    bad_losses: int = 0
    progress: dict[str, float] = field(default_factory=dict)  # kept in checkpoints
    saved: int = -1  # update of the newest checkpoint
    taken: Iterator[data.Taken] | None = None  # samples, read ahead
    last_reason: str = ""

    def train(self) -> None:
        """Train to the last update, from the newest checkpoint where there is one.

        Raises:
            Stopped: it was asked to; the update that it was at is finished and saved.
        """
        step, total = self._prepare()
        share = self._share(step)
        pin = self.accelerator.device.type == "cuda"
        taken = data.training(self.training, share, self.run.num_workers, pin)
        self.taken = taken
        if not self.progress:
            self.progress = dict.fromkeys(COUNTS, 0.0) | {"evaluated": -1}
        if not self._evaluated(step, total):
            self._stop(step, total)
        if step == 0 and self.saved < 0 and self.run.final == "best":
            self._checkpoint(0)
        if self.saved >= 0:
            self.state.draw_on(self.saved)
        with log.progress("train", total - step, "step") as advance:
            while step < total and not self._stale():
                step += 1
                stopping = self._update(step, taken, share.num_batches)
                if stopping or not self._evaluated(step, total):
                    self._stop(step, total)
                best = step == self.progress.get("best_step")
                if best or step % self.run.checkpoint_steps == 0:
                    self._checkpoint(step)
                advance()
        self._checkpoint(step)
        finish.finish(self, step)

    def _prepare(self) -> tuple[int, int]:
        """Everything around the model; returns the update to go on from and the last one."""
        run, accelerator = self.run, self.accelerator
        share = self._share(0)
        epochs = run.num_epochs * len(self.training.samples)
        total = run.max_steps or math.ceil(epochs / share.update_size)
        if run.compile:
            self.loaded.model.compile()
        self.way = sharding.of(run, accelerator)
        schedules = []

        def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
            made = optim.optimizer(model, run)
            schedules.append(optim.schedule(made, run, total))
            return made

        self.model = self.way.prepare(self.loaded.model.train(), optimizer)
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        self.ema = optim.average(self.weights, run)
        [self.schedule] = schedules
        folder = self.folder / "checkpoints"
        self.state = State(self.way, folder, self.order["seal"], self.schedule, self.ema)
        self.saved, self.progress = self.state.resume()
        self.peak_tflops = flops.peak_tflops(accelerator.device, run.peak_tflops)
        self.meter = flops.Meter()
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
            raise Stopped(f"{where}; the same command goes on from there", self._signal())
        text = "stopped before the first update; the same command begins again"
        raise Stopped(text, self._signal())

    def _signal(self) -> int:
        return self.asked.number if self.asked and self.asked.number else stop.SIGNALS[0]

    def _stopping(self) -> int:
        """Whether this process was asked to stop."""
        return int(bool(self.asked and self.asked.number))

    def _share(self, updates_done: int) -> data.Share:
        return data.Share(
            self.run.samples_per_update,
            self.run.batch_size,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.run.seed,
            self.run.bucketing,
            updates_done,
        )

    def _update(self, step: int, taken: Iterator[data.Taken], num_batches: int) -> bool:
        """One weight update, its loss the mean over the targets of all batches and processes.

        Returns:
            whether a process was asked to stop.
        """
        accelerator, began = self.accelerator, time.perf_counter()
        calls = [next(taken) for _ in range(num_batches)]
        waited = time.perf_counter() - began
        batches = [batch for call in calls for batch in self._usable(call)]
        targets, tokens, stopping = self._totals(calls, batches)
        total = torch.zeros((), device=accelerator.device)
        rounds = self.way.rounds(len(batches))
        for number in range(1, rounds + 1):
            # Where processes keep in step, one with fewer batches repeats its last one for nothing.
            batch = batches[min(number, len(batches)) - 1]
            used, last = number <= len(batches), number == rounds
            total += self._pass(batch, targets, used, last)
        norm, moved = self.way.step(self.weights)
        if moved:
            self.schedule.step()
            if self.ema:
                self.ema.step(self.weights)
        needed = torch.tensor(self.meter.take(), device=accelerator.device)
        total, needed = accelerator.reduce(torch.stack([total, needed]))
        mean = float(total / targets)
        self._check(step, mean)
        took = time.perf_counter() - began
        values = {
            "loss": mean,
            "learning_rate": float(self.schedule.get_last_lr()[0]),
            "grad_norm": norm,
            "samples_per_s": self.run.samples_per_update / took,
            **({"tokens_per_s": float(tokens) / took} if tokens else {}),
            "data_wait_share": waited / took,
            "memory_gb": peak_memory_gb(),
        }
        if self.peak_tflops:
            peak = self.peak_tflops * 1e12 * accelerator.num_processes
            values["mfu"] = float(needed) / took / peak
        self._track(step, values)
        return stopping

    def _pass(self, batch: Batch, targets: torch.Tensor, used: bool, last: bool) -> torch.Tensor:
        """Forward and backward over a batch, whose loss counts if it is `used`; returns it."""
        ready = self.training.ready(batch, self.accelerator.device)
        counted = self.peak_tflops and used
        with (
            self.way.accumulating(last),
            self.meter.over(ready) if counted else contextlib.nullcontext(),
        ):
            with self.way.autocast():
                loss: torch.Tensor = self.family.loss(self.loaded, self.model, ready) * used
            # Gradients are averaged over processes, so their number cancels here.
            self.way.backward(loss * self.accelerator.num_processes / targets, last)
        return loss.detach()

    def _usable(self, taken: data.Taken) -> list[Batch]:
        """The batches of a call; what could not be used is named."""
        for reason in taken.reasons:
            log.logger.warning("skipped a sample: %s", reason)
            self.last_reason = reason
        if not taken.batches:
            raise TrainingError(f"no sample near could be used either: {self.last_reason}")
        return taken.batches

    def _totals(
        self, calls: list[data.Taken], batches: list[Batch]
    ) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Targets of the loss and tokens in all, over all processes; limits what was skipped.

        And whether one of them was asked to stop: all must leave off at the same update.
        """
        own = [
            sum(map(data.num_targets, batches)),
            sum(map(data.num_tokens, batches)),
            sum(len(call.reasons) for call in calls),
            sum(call.cut for call in calls),
            self._stopping(),
        ]
        totals = self.accelerator.reduce(torch.tensor(own, device=self.accelerator.device))
        skipped, cut, stopping = totals[2:].tolist()
        self.progress["seen"] += self.run.samples_per_update
        self.progress["skipped"] += skipped
        self.progress["cut"] += cut
        seen = max(self.progress["seen"], len(self.training.samples))
        if self.progress["skipped"] > self.run.max_skipped * seen:
            raise TrainingError(
                f"{self.progress['skipped']:.0f} of {self.progress['seen']:.0f} samples could not "
                f"be used, more than train.max_skipped = {self.run.max_skipped:g} allows; the "
                f"last: {self.last_reason}"
            )
        return totals[0], totals[1], bool(stopping)

    def _check(self, step: int, loss: float) -> None:
        self.bad_losses = 0 if math.isfinite(loss) else self.bad_losses + 1
        if self.bad_losses >= MAX_BAD_LOSSES:
            raise TrainingError(f"the loss was no number for {MAX_BAD_LOSSES} steps up to {step}")

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
                self.way, self.model, self.validation, self.run, stopping
            )
            if values is not None and not math.isfinite(values["held_out_loss"]):
                raise TrainingError(f"the held-out loss is no number at step {step}")
            if values is not None and (self.tracker or self.way.shares_weights):
                model = accelerator.unwrap_model(self.model)
                # Those that take part together can't leave off one by one.
                alone = (lambda: 0) if self.way.shares_weights else stopping
                with self.way.outermost():
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
        progress = {"first": loss} | self.progress | values | {"evaluated": step}
        if loss < progress.get("best", math.inf):
            progress |= {"best": loss, "best_step": step, "stale": 0}
        else:
            progress["stale"] += 1
        self.progress = progress

    def _stale(self) -> bool:
        """Whether the held-out loss has not got better for long enough to stop."""
        patience = self.run.early_stopping
        return patience is not None and self.progress["stale"] >= patience

    def _track(self, step: int, values: dict[str, float]) -> None:
        if self.tracker:
            self.tracker.write(step, values)

    def _checkpoint(self, step: int) -> None:
        if self.bad_losses or step == self.saved:
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


if __name__ == "__main__":
    from spark_trainer.train.process import main

    main()
