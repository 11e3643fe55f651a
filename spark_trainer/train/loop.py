"""The only training loop: it knows a family's verbs and no model.

Started by `launch` as `python -m spark_trainer.train.loop <run folder>`, once per process.
"""

import contextlib
import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from spark_trainer import families, log
from spark_trainer.config import Run
from spark_trainer.data.dataset import CaptionedFrames, Part, Sample
from spark_trainer.data.files import read_json, write_json
from spark_trainer.families import Family, Loaded
from spark_trainer.train import card, data, optim, state
from spark_trainer.train.tracking import Tracker, peak_memory_gb

MAX_BAD_LOSSES = 3  # updates in a row whose loss is no number


class TrainingError(RuntimeError):
    """Training can't go on; the message says why."""


@dataclass
class Trainer:
    """One process of one run."""

    folder: Path
    run: Run
    accelerator: Accelerator
    family: Family
    loaded: Loaded
    training: CaptionedFrames
    validation: CaptionedFrames
    seen: int = 0
    skipped: int = 0
    bad_losses: int = 0
    losses: dict[str, float] = field(default_factory=dict)

    def train(self) -> None:
        """Train to the last update, from the newest checkpoint where there is one."""
        run, accelerator = self.run, self.accelerator
        total = self._total_steps()
        optimizer = optim.optimizer(self.loaded.model, run)
        schedule = optim.schedule(optimizer, run, total)
        self.model, self.optimizer = accelerator.prepare(self.loaded.model, optimizer)
        self.schedule = schedule
        accelerator.register_for_checkpointing(schedule)
        first, self.losses = state.resume(accelerator, self.folder / "checkpoints")
        self.tracker = Tracker(self.folder, first) if accelerator.is_main_process else None
        if first == 0:
            self._evaluate(0)
        batches = data.training(self.training, self._collate(), self._share(first), run.num_workers)
        with log.progress("train", total - first, "step") as advance:
            for step in range(first + 1, total + 1):
                self._update(step, batches)
                if step % run.eval_steps == 0 or step == total:
                    self._evaluate(step)
                if step % run.checkpoint_steps == 0 or step == total:
                    self._checkpoint(step)
                advance()
        self._finish(total)

    def _total_steps(self) -> int:
        if self.run.max_steps:
            return self.run.max_steps
        wide = self.run.batch_size * self.run.gradient_accumulation_steps
        wide *= int(self.accelerator.num_processes)
        return math.ceil(self.run.num_epochs * len(self.training) / wide)

    def _collate(self) -> data.Collate:
        return data.Collate(self.family, self.loaded)

    def _share(self, steps_done: int) -> data.Share:
        return data.Share(
            self.run.batch_size,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.run.seed,
            steps_done * self.run.gradient_accumulation_steps,
        )

    def _update(self, step: int, batches: Iterator[tuple[data.Batch | None, list[str]]]) -> None:
        """One weight update, its loss the mean over all tokens of all batches and processes."""
        accelerator, began = self.accelerator, time.perf_counter()
        self.model.train()
        micro = [self._take(*next(batches)) for _ in range(self.run.gradient_accumulation_steps)]
        waited = time.perf_counter() - began
        own = sum((self.family.targets(batch) for batch in micro), torch.tensor(0))
        tokens = accelerator.reduce(own.to(accelerator.device))
        total = torch.zeros((), device=accelerator.device)
        for number, batch in enumerate(micro, start=1):
            # Processes exchange gradients once per update, at the last batch.
            last = number == len(micro)
            apart = contextlib.nullcontext() if last else accelerator.no_sync(self.model)
            with apart, accelerator.autocast():
                loss = self.family.loss(self.loaded, self.model, batch)
                # DDP averages over processes, so their number cancels here.
                accelerator.backward(loss * accelerator.num_processes / tokens)
            total += loss.detach()
        norm = accelerator.clip_grad_norm_(self.model.parameters(), self.run.max_grad_norm)
        self.optimizer.step()
        if not accelerator.optimizer_step_was_skipped:
            self.schedule.step()
        self.optimizer.zero_grad()
        mean = float(accelerator.reduce(total) / tokens)
        self._check(step, mean)
        took = time.perf_counter() - began
        samples = self.run.batch_size * len(micro) * int(accelerator.num_processes)
        self._track(
            step,
            {
                "loss": mean,
                "learning_rate": float(self.schedule.get_last_lr()[0]),
                "grad_norm": float(norm),
                "samples_per_s": samples / took,
                "tokens_per_s": float(tokens) / took,
                "data_wait_share": waited / took,
                "memory_gb": peak_memory_gb(),
            },
        )

    def _take(self, batch: data.Batch | None, reasons: list[str]) -> data.Batch:
        """Move a batch to the device; count, name and limit what could not be used."""
        self.seen += self.run.batch_size
        self.skipped += len(reasons)
        for reason in reasons:
            log.logger.warning("skipped a sample: %s", reason)
        if self.skipped > self.run.max_skipped * max(self.seen, len(self.training)):
            raise TrainingError(
                f"{self.skipped} of {self.seen} samples could not be used, more than "
                f"train.max_skipped = {self.run.max_skipped:g} allows; the last: {reasons[-1]}"
            )
        if batch is None:
            raise TrainingError(f"a whole batch could not be used: {reasons[-1]}")
        return {name: value.to(self.accelerator.device) for name, value in batch.items()}

    def _check(self, step: int, loss: float) -> None:
        self.bad_losses = 0 if math.isfinite(loss) else self.bad_losses + 1
        if self.bad_losses >= MAX_BAD_LOSSES:
            raise TrainingError(f"the loss was no number for {MAX_BAD_LOSSES} steps up to {step}")

    @torch.inference_mode()
    def _evaluate(self, step: int) -> None:
        """Held-out loss over every validation sample, and captions of a fixed few."""
        accelerator = self.accelerator
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
        rank, world = accelerator.process_index, accelerator.num_processes
        for batch in data.held_out(
            self.validation, self._collate(), self.run.batch_size, rank, world
        ):
            moved = {name: value.to(accelerator.device) for name, value in batch.items()}
            with accelerator.autocast():
                loss = self.family.loss(self.loaded, self.model, moved)
            sums += torch.stack([loss.double(), self.family.targets(moved).double()])
        total, tokens = accelerator.reduce(sums).tolist()
        value = total / tokens
        if not math.isfinite(value):
            raise TrainingError(f"the held-out loss is no number at step {step}")
        self.losses.setdefault("first", value)
        self.losses["last"] = value
        self._track(step, {"held_out_loss": value})
        if self.tracker:
            self.tracker.samples(step, self._samples())
        accelerator.wait_for_everyone()

    def _samples(self) -> list[dict[str, Any]]:
        chosen = self.validation.first_of_each_video()[: self.run.num_samples]
        samples = [s for s in map(self.validation.__getitem__, chosen) if isinstance(s, Sample)]
        if not samples:
            return []
        model = self.accelerator.unwrap_model(self.model)
        texts = self.family.generate(self.loaded, model, [sample.image for sample in samples])
        return [
            {"video": sample.video, "caption": sample.text, "generated": text}
            for sample, text in zip(samples, texts, strict=True)
        ]

    def _track(self, step: int, values: dict[str, float]) -> None:
        if self.tracker:
            self.tracker.write(step, values)

    def _checkpoint(self, step: int) -> None:
        if self.bad_losses:
            return  # the checkpoint before is worth more than weights that are no numbers
        folder = self.folder / "checkpoints"
        state.save(self.accelerator, folder, step, self.losses)
        if self.accelerator.is_main_process:
            state.rotate(folder, self.run.keep_checkpoints)

    def _finish(self, total: int) -> None:
        """Save what upstream's `from_pretrained` loads, then the summary that seals the run."""
        if not self.accelerator.is_main_process:
            return
        assert self.tracker is not None
        self.tracker.close()
        model = self.accelerator.unwrap_model(self.model)
        temporary, final = self.folder / ".final", self.folder / "final"
        shutil.rmtree(temporary, ignore_errors=True)
        self.family.save(self.loaded, model, temporary)
        summary = {
            "steps": total,
            "first_loss": self.losses["first"],
            "last_loss": self.losses["last"],
            "device": self.accelerator.device.type,
            "processes": self.accelerator.num_processes,
            "training_videos": self.training.num_videos,
            "validation_videos": self.validation.num_videos,
            "skipped_samples": self.skipped,
        }
        card.write(temporary, self.run, read_json(self.folder / "lineage.json"), summary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        write_json(self.folder / "trained.json", summary)


def prepare(folder: Path) -> Trainer:
    """Read a run folder and build its trainer.

    Raises:
        TrainingError: the processes or the device are not those that were asked for.
        ValueError: the checkpoint is of no known family, or a part of the data is empty.
    """
    order = read_json(folder / "run.json")
    run = Run(**order["settings"])
    cpu = order["device"] == "cpu"
    accelerator = Accelerator(mixed_precision=run.mixed_precision, cpu=cpu)
    got = (accelerator.num_processes, accelerator.device.type)
    if got != (order["processes"], order["device"]):
        raise TrainingError(
            f"asked for {order['processes']} processes on {order['device']}, "
            f"got {got[0]} on {got[1]}"
        )
    if accelerator.is_main_process:
        log.start(f"training on {got[0]} × {got[1]}", folder / "train.log")
    set_seed(run.seed)
    family = families.find(run.model_name)
    loaded = family.load(run.model_name, run.from_scratch)
    root = Path(order["data_root"])
    parts = {part: _read(folder, root, run, part) for part in ("train", "validation")}
    return Trainer(folder, run, accelerator, family, loaded, parts["train"], parts["validation"])


def _read(folder: Path, root: Path, run: Run, part: Part) -> CaptionedFrames:
    manifest = folder / "manifest.jsonl"
    dataset = CaptionedFrames(manifest, root, run.split, part, run.frames_per_video)
    for reason in dataset.left_out:
        log.logger.warning("left out of %s: %s", part, reason)
    if len(dataset) == 0:
        raise ValueError(
            f"train.split: no usable video in the part {part!r} of {manifest}; "
            "change split.validation or split.seed, or add videos"
        )
    return dataset


def main() -> None:
    """Train the run whose folder is the only argument."""
    try:
        prepare(Path(sys.argv[1])).train()
    except (TrainingError, ValueError, OSError) as error:
        log.logger.error("%s", error)
        sys.exit(f"spark_trainer: {error}")


if __name__ == "__main__":
    main()
