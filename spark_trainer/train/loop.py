"""The only training loop: it knows a family's verbs and no model.

Started by `launch` as `python -m spark_trainer.train.loop <run folder>`, once per process.
"""

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from spark_trainer import gpu, log
from spark_trainer.config import Run
from spark_trainer.data.files import read_json, write_json
from spark_trainer.families import Batch, Family, Loaded
from spark_trainer.scores import SCORES
from spark_trainer.train import data, evaluation, final, flops, optim, setup, sharding, state
from spark_trainer.train.setup import TrainingError
from spark_trainer.train.tracking import Tracker, peak_memory_gb

COUNTS = ("seen", "skipped", "cut")  # samples since the first update
MAX_BAD_LOSSES = 3  # updates in a row whose loss is no number


@dataclass
class Trainer:
    """One process of one run."""

    folder: Path
    run: Run
    accelerator: Accelerator
    family: Family
    loaded: Loaded
    training: data.Reader
    validation: data.Reader
    bad_losses: int = 0
    progress: dict[str, float] = field(default_factory=dict)  # kept in checkpoints
    last_reason: str = ""

    def train(self) -> None:
        """Train to the last update, from the newest checkpoint where there is one."""
        step, total = self._prepare()
        log.logger.info("%s at update %d of %d", "resumed" if step else "started", step, total)
        share = self._share(step)
        pin = self.accelerator.device.type == "cuda"
        taken = data.training(self.training, share, self.run.num_workers, pin)
        if not self.progress:
            self.progress = dict.fromkeys(COUNTS, 0.0)
            self._evaluate(0)
            if self.run.final == "best":
                self._checkpoint(0)
        with log.progress("train", total - step, "step") as advance:
            while step < total and not self._stale():
                step += 1
                self._update(step, taken, share.num_batches)
                if step % self.run.eval_steps == 0 or step == total:
                    self._evaluate(step)
                if (
                    step in (total, self.progress["best_step"])
                    or step % self.run.checkpoint_steps == 0
                ):
                    self._checkpoint(step)
                advance()
        self._finish(step)

    def _prepare(self) -> tuple[int, int]:
        """Everything around the model; returns the update to go on from and the last one."""
        run, accelerator = self.run, self.accelerator
        share = self._share(0)
        epochs = run.num_epochs * len(self.training.samples)
        total = run.max_steps or math.ceil(epochs / share.update_size)
        if run.compile:
            self.loaded.model.compile()
        self.way = sharding.of(run, accelerator)

        def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
            made = optim.optimizer(model, run)
            self.schedule = optim.schedule(made, run, total)
            return made

        self.model = self.way.prepare(self.loaded.model.train(), optimizer)
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        self.ema = optim.average(self.weights, run)
        accelerator.register_for_checkpointing(*filter(None, [self.schedule, self.ema]))
        state.attach(self.way)
        first, self.progress = state.resume(self.way, self.folder / "checkpoints")
        # FLOPs are counted over a pass of its own, which processes in step can't make.
        known = flops.peak_tflops(accelerator.device, run.peak_tflops)
        self.peak_tflops = None if self.way.in_step else known
        self.flops_each: float | None = None  # of a token, or of a clip where there are none
        self.tracker = None
        if accelerator.is_main_process:
            self.tracker = Tracker(self.folder, first, run.wandb_project)
        return first, total

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

    def _update(self, step: int, taken: Iterator[data.Taken], num_batches: int) -> None:
        """One weight update, its loss the mean over the targets of all batches and processes."""
        accelerator, began = self.accelerator, time.perf_counter()
        calls = [next(taken) for _ in range(num_batches)]
        waited = time.perf_counter() - began
        batches = [batch for call in calls for batch in self._usable(call)]
        if self.peak_tflops and self.flops_each is None:
            self.flops_each = self._count_flops(batches[0])
        targets, tokens = self._totals(calls, batches)
        total = torch.zeros((), device=accelerator.device)
        rounds = self.way.rounds(len(batches))
        for number in range(1, rounds + 1):
            # Where processes keep in step, one with fewer batches repeats its last one for nothing.
            batch = batches[min(number, len(batches)) - 1]
            last = number == rounds
            with self.way.accumulating(last):
                loss = self._loss(self.training.ready(batch, accelerator.device))
                loss = loss * (number <= len(batches))
                # Gradients are averaged over processes, so their number cancels here.
                self.way.backward(loss * accelerator.num_processes / targets, last)
            total += loss.detach()
        norm, moved = self.way.step(self.weights)
        if moved:
            self.schedule.step()
            if self.ema:
                self.ema.step(self.weights)
        mean = float(accelerator.reduce(total) / targets)
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
        if self.peak_tflops and self.flops_each:
            peak = self.peak_tflops * 1e12 * accelerator.num_processes
            values["mfu"] = self.flops_each * float(tokens or targets) / took / peak
        self._track(step, values)

    def _loss(self, ready: Batch) -> torch.Tensor:
        with self.way.autocast():
            return self.family.loss(self.loaded, self.model, ready)

    def _count_flops(self, batch: Batch) -> float:
        ready = self.training.ready(batch, self.accelerator.device)
        with self.accelerator.no_sync(self.model):
            recomputed = self.run.gradient_checkpointing
            counted = flops.count(partial(self._loss, ready), self.model, recomputed)
        return counted / (data.num_tokens(batch) or data.num_targets(batch))

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
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Targets of the loss and tokens in all, over all processes; limits what was skipped."""
        own = [
            sum(map(data.num_targets, batches)),
            sum(map(data.num_tokens, batches)),
            sum(len(call.reasons) for call in calls),
            sum(call.cut for call in calls),
        ]
        totals = self.accelerator.reduce(torch.tensor(own, device=self.accelerator.device))
        skipped, cut = totals[2:].tolist()
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
        return totals[0], totals[1]

    def _check(self, step: int, loss: float) -> None:
        self.bad_losses = 0 if math.isfinite(loss) else self.bad_losses + 1
        if self.bad_losses >= MAX_BAD_LOSSES:
            raise TrainingError(f"the loss was no number for {MAX_BAD_LOSSES} steps up to {step}")

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
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

    def _evaluate(self, step: int) -> None:
        """Held-out loss over every validation sample, and what is made of a fixed few."""
        accelerator = self.accelerator
        with self._averaged():
            values = evaluation.held_out_loss(self.way, self.model, self.validation, self.run)
            loss = values["held_out_loss"]
            if not math.isfinite(loss):
                raise TrainingError(f"the held-out loss is no number at step {step}")
            if self.tracker or self.way.shares_weights:
                model = accelerator.unwrap_model(self.model)
                with self.way.outermost():
                    values |= evaluation.show(model, self.validation, self.run, self.tracker, step)
        self.model.train()
        accelerator.wait_for_everyone()
        self._track(step, values)
        progress = {"first": loss} | self.progress | values
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
        if self.bad_losses:
            return  # the checkpoint before is worth more than weights that are no numbers
        folder = self.folder / "checkpoints"
        state.save(self.way, folder, step, self.progress)
        if self.accelerator.is_main_process:
            best = state.path(folder, int(self.progress["best_step"]))
            state.rotate(folder, self.run.keep_checkpoints, best)

    def _finish(self, step: int) -> None:
        """Write `final/`, then the summary that seals the run."""
        best = state.path(self.folder / "checkpoints", int(self.progress["best_step"]))
        if self.run.final == "best" and not best.exists():
            raise TrainingError(f"train.final: the best weights are not there: {best}")
        held = self.way.optimizer_bytes()
        loaded = self._trained(best if self.run.final == "best" else None)
        if self.tracker is None:
            return
        self.tracker.close()
        summary = {
            "steps": step,
            "first_loss": self.progress["first"],
            "last_loss": self.progress["held_out_loss"],
            "best_loss": self.progress["best"],
            "best_step": self.progress["best_step"],
            "scores": {name: self.progress[name] for name in SCORES if name in self.progress},
            "final": self.run.final,
            "device": self.accelerator.device.type,
            "processes": self.accelerator.num_processes,
            "optimizer_bytes": held,
            "training_videos": self.training.samples.num_videos,
            "validation_videos": self.validation.samples.num_videos,
            "left_out_videos": len(self.training.samples.left_out),
            "skipped_samples": self.progress["skipped"],
            "cut_texts": self.progress["cut"],
        }
        lineage = read_json(self.folder / "lineage.json")
        with self._averaged():
            final.write(self.folder / "final", self.run, self.family, loaded, lineage, summary)
        write_json(self.folder / "trained.json", summary)

    def _trained(self, checkpoint: Path | None) -> Loaded:
        """The network as it was trained, or as a checkpoint has it; all processes must call it.

        Where no process holds everything, the main one loads the base a second time and puts what
        was learnt into it; the others get the model that they have.
        """
        if not self.way.in_step:
            if checkpoint:
                self.accelerator.load_state(str(checkpoint))
            return replace(self.loaded, model=self.accelerator.unwrap_model(self.model))
        learnt = state.learnt(checkpoint) if checkpoint else self.way.learnt()
        if self.tracker is None:
            return self.loaded
        _, loaded = setup.model(self.run)
        loaded.model.load_state_dict(learnt, strict=False)
        return loaded


def prepare(folder: Path) -> Trainer:
    """Read a run folder and build its trainer.

    Raises:
        TrainingError: the processes, device or precision are not those that were asked for.
        ValueError: the checkpoint is of no known family, or a part of the data is empty.
    """
    run, order, accelerator = setup.accelerator(folder)
    family, loaded = setup.model(run)
    root, device = Path(order["data_root"]), accelerator.device
    training, validation = setup.readers(folder, root, run, family, loaded, device)
    return Trainer(folder, run, accelerator, family, loaded, training, validation)


def main() -> None:
    """Train the run whose folder is the only argument."""
    try:
        gpu.hold()
        trainer = prepare(Path(sys.argv[1]))
        trainer.train()
        # A process that leaves while another still writes may end with an error after all is done.
        trainer.accelerator.wait_for_everyone()
        trainer.accelerator.end_training()
    except (TrainingError, gpu.NoDevice, ValueError, OSError) as error:
        log.logger.error("%s", error)
        sys.exit(f"spark_trainer: {error}")


if __name__ == "__main__":
    main()
