"""The only training loop: it knows a method's verbs, no family and no kind."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from spark_trainer.config import Run
from spark_trainer.errors import Stopped
from spark_trainer.system import log
from spark_trainer.system.progress import Advance, progress
from spark_trainer.train import (
    data,
    evaluation,
    finish,
    optim,
    stop,
    strategies,
    trackers,
    workers,
)
from spark_trainer.train.progress import Progress
from spark_trainer.train.setup import Setup, TrainingError
from spark_trainer.train.state import State
from spark_trainer.train.tracking import Tracker
from spark_trainer.train.updates import Updates


@dataclass
class Trainer:
    """One process of one run."""

    setup: Setup
    total: int  # updates
    updates: Updates
    state: State
    saved: int  # update of the newest checkpoint, which may still be written; -1 without one
    tracker: Tracker | None  # of the main process
    stopping: Callable[[], int]  # not 0: the signal that asks for it, or a checkpoint has failed
    asked: stop.Asked | None = None

    @classmethod
    def build(cls, setup: Setup, asked: stop.Asked | None = None) -> "Trainer":
        """Put around a model what trains it, as the newest checkpoint has it where there is one.

        Args:
            setup: the settings, the model and the data.
            asked: whether to stop; never without.
        """
        run, accelerator = setup.run, setup.accelerator
        epochs = run.num_epochs * len(setup.training.samples)
        reads = math.ceil(epochs / run.samples_per_update)
        total = run.max_steps or reads * setup.method.updates_per_read
        if run.compile == "layers":
            setup.method.family.compile_layers(setup.loaded)
        elif run.compile:
            setup.loaded.model.compile()
        strategy = strategies.of(run)(run, accelerator)
        schedules = []

        def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
            made = optim.optimizer(model, run)
            schedules.append(optim.schedule(made, run, total))
            return made

        def stopping() -> int:
            return (asked.number if asked else 0) or int(state.writer.failed)

        model = strategy.prepare(setup.loaded.model.train(), optimizer)
        weights = [p for p in model.parameters() if p.requires_grad]
        setup.method.begin(lambda: [strategy.held(weight) for weight in weights])
        average = optim.average(weights, run)
        [schedule] = schedules
        state = State(strategy, setup.folder, setup.launched.run_id, schedule, average)
        saved, progress = state.resume()
        inside = setup.method, setup.training, model, weights, schedule, average
        updates = Updates(strategy, *inside, progress, stopping)
        main = accelerator.is_main_process
        tracker = None
        if main:
            others = trackers.begin(setup.folder, run, saved)
            tracker = Tracker(setup.folder, saved, run, others)
        return cls(setup, total, updates, state, saved, tracker, stopping, asked)

    @property
    def run(self) -> Run:
        """Return the settings."""
        return self.setup.run

    @property
    def progress(self) -> Progress:
        """Return what was counted and found so far."""
        return self.updates.progress

    def train(self) -> None:
        """Train to the last update.

        Raises:
            Stopped: it was asked to; the update that it was at is finished and saved.
        """
        step = self._begin()
        reader, accelerator = self.setup.training, self.setup.accelerator
        reads = step // self.setup.method.updates_per_read
        sampler = data.sampler(reader.samples, self.run, accelerator, reads)
        reading_ahead = workers.reading(reader, sampler, self.run, accelerator)
        with self.state.writer, reading_ahead as reading:
            step = self._updates_from(step, reading, sampler.num_batches)
        if self.asked:  # whole recordings may be heard now, for hours
            self.asked.hear = stop.last_is_saved
        finish.finish(self, step)

    def _begin(self) -> int:
        """Say where the run begins or goes on; returns the update that it is at."""
        step, continued = max(0, self.saved), self.setup.launched.continued_from
        if step > self.total:
            raise TrainingError(
                f"train.num_epochs, train.max_steps: {self.total} updates in all, but "
                f"{continued} is at {step} already"
            )
        text = "resumed at update %d of %d"
        log.logger.info(text if self.saved >= 0 else "started at update %d of %d", step, self.total)
        if self.run.warmup_steps >= self.total:
            text = "train.warmup_steps: %d of %d updates in all: the learning rate stays below %g"
            log.logger.warning(text, self.run.warmup_steps, self.total, self.run.learning_rate)
        if continued:
            text = "continues %s by a %s schedule over %d updates: the learning rate is now %.4g"
            rate = float(self.state.schedule.get_last_lr()[0])
            log.logger.info(text, continued, self.run.schedule, self.total, rate)
        return step

    def _updates_from(self, step: int, reading: workers.Reading, num_calls: int) -> int:
        """Make the updates after one; returns the number of the last one that is due."""
        if not self._evaluated(step):
            self._stop(step)
        if self.saved >= 0:
            self.state.draw_on(self.saved)
        elif self.run.final == "best":
            self._checkpoint(0)
        with self._shown_on_screen(step) as advance:
            while step < self.total and not self._stale():
                step += 1
                values, stopping = self.updates.make(step, reading, num_calls)
                self._track(step, values)
                between = step % self.setup.method.updates_per_read == 0
                if (stopping and between) or not self._evaluated(step):
                    self._stop(step)
                if step == self.progress.best_step or self._due(step, self.run.checkpoint_steps):
                    self._checkpoint(step)
                advance(self._said(values["loss"]))
        if step < self.total:
            objective = self.setup.method.objective
            text = "stopped early at update %d of %d: no %s %s since update %d"
            found = objective.better, objective.words, self.progress.best_step
            log.logger.info(text, step, self.total, *found)
        self._checkpoint(step)
        return step

    def _shown_on_screen(self, step: int) -> contextlib.AbstractContextManager[Advance]:
        """Show how far the run is, by its main process."""
        if not self.tracker:
            return contextlib.nullcontext(lambda note="": None)
        return progress(f"train/{self.setup.launched.name}", self.total, "update", done=step)

    def _said(self, loss: float) -> str:
        """Say where the run stands: its loss, and the newest objective over held-out samples."""
        objective, found = self.setup.method.objective, self.progress.metrics
        held_out = found.get(objective.metric)
        behind = "" if held_out is None else f", {objective.words} {held_out:.3f}"
        return f"loss {loss:.3f}{behind}"

    def _due(self, step: int, every: int) -> bool:
        """Tell whether so many updates have passed, at the first one behind which is read anew.

        What a method still goes on with is in no checkpoint.
        """
        several = self.setup.method.updates_per_read
        return step % several == 0 and step // every > (step - several) // every

    def _stale(self) -> bool:
        """Tell whether evaluations have found nothing better for long enough to stop."""
        patience = self.run.early_stopping
        return patience is not None and self.progress.stale >= patience

    def _evaluated(self, step: int) -> bool:
        """Evaluate where that is due at an update; False if it was asked to stop meanwhile."""
        due = self._due(step, self.run.eval_steps) or step == self.total
        if not due or self.progress.evaluated == step or not self.run.holds_out:
            return True
        return self._evaluate(step)

    def _evaluate(self, step: int) -> bool:
        """Measure the objective over every validation sample, and show what is made of a few.

        Returns:
            False if a process was asked to stop: then nothing of it counts.
        """
        method, updates, accelerator = self.setup.method, self.updates, self.setup.accelerator
        objective, reader = method.objective, self.setup.validation
        generating = updates.strategy.gathered() if method.generates else contextlib.nullcontext()
        with self.averaged(), generating:
            values = evaluation.held_out(
                updates.strategy, method, updates.model, reader, self.stopping
            )
            if values is not None and not math.isfinite(values[objective.metric]):
                raise TrainingError(f"the {objective.words} is no number at step {step}")
            if values is not None:
                values |= self._shown(step)
        updates.model.train()
        stopped = torch.tensor([self.stopping()], device=accelerator.device)
        if values is None or int(accelerator.reduce(stopped)):
            return False
        self._track(step, values)
        self.progress.note(step, values, objective)
        return True

    def _shown(self, step: int) -> dict[str, float]:
        """Show what is made of a few held-out samples; returns scores of it."""
        setup, strategy = self.setup, self.updates.strategy
        readers = [setup.validation, *([setup.beside] if setup.beside else [])]
        inside = setup.method, self.updates.network, readers, self.tracker
        with strategy.gather_root():
            return evaluation.show(strategy, *inside, step, self.stopping)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the moving average in place of the weights, where there is one."""
        average, weights = self.updates.average, self.updates.weights
        if average is None:
            yield
            return
        average.store(weights)
        average.copy_to(weights)
        try:
            yield
        finally:
            average.restore(weights)

    def _stop(self, step: int) -> None:
        """Save where the run is, and end.

        Raises:
            Stopped: always.
        """
        if step > 0:
            self._checkpoint(step)
        self.state.writer.wait()
        if self.tracker:
            self.tracker.close()
        status = stop.STATUS[self.stopping() or stop.SIGNALS[0]]
        if self.saved >= 0:
            where = f"stopped at update {step} of {self.total}, checkpoint {self.saved} is saved"
            raise Stopped(f"{where}; the same command goes on from there", status)
        text = "stopped before the first update; the same command begins again"
        raise Stopped(text, status)

    def _track(self, step: int, values: dict[str, float]) -> None:
        if self.tracker:
            self.tracker.write(step, values)

    def _checkpoint(self, step: int) -> None:
        if self.updates.bad_losses or step == self.saved:
            return  # the checkpoint before is worth more than weights that are no numbers
        self.state.save(step, self.progress)
        self.saved = step
