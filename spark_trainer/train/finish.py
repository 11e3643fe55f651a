"""How a run ends: the trained weights in `final/`, then the summary that says it is finished."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from spark_trainer.data.files import read_json
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.metrics import score
from spark_trainer.runs.summary import Summary
from spark_trainer.train import checkpoints, final, setup
from spark_trainer.train.setup import TrainingError
from spark_trainer.train.strategies.base import WEIGHTS

if TYPE_CHECKING:
    from spark_trainer.train.loop import Trainer


def finish(trainer: "Trainer", step: int) -> None:
    """Write `final/` and the summary; all processes must call it.

    Raises:
        TrainingError: the best weights are wanted, and not there or damaged.
    """
    start, run, progress = trainer.setup, trainer.run, trainer.progress
    held = trainer.updates.strategy.optimizer_bytes()
    loaded = _trained(trainer, _best(trainer) if run.final == "best" else None)
    if trainer.tracker is None:
        return
    trainer.tracker.close()
    metrics, objective = progress.metrics, start.method.objective
    saved = _metrics_at(trainer, progress.best_step) if run.final == "best" else metrics
    scores = score.known(saved)
    summary = Summary(
        steps=step,
        device=start.accelerator.device.type,
        objective=objective,
        first=progress.first,
        last=metrics.get(objective.metric),
        best=progress.best,
        best_step=progress.best_step,
        scores=scores,
        first_scores=_first_metrics(trainer, scores),
        final=run.final,
        processes=start.accelerator.num_processes,
        optimizer_bytes=held,
        training_videos=start.training.samples.num_videos,
        validation_videos=start.validation.samples.num_videos,
        left_out_videos=len(start.training.samples.left_out),
        skipped_samples=progress.skipped,
        cut_texts=progress.cut,
        untold=trainer.tracker.untold,
    )
    lineage = read_json(start.folder.lineage)
    with trainer.averaged():
        written = run, start.method.family, loaded, lineage, partial(_measured, trainer, summary)
        summary = final.write(start.folder.final, *written)
    summary.write(start.folder)


def _measured(trainer: "Trainer", summary: Summary, exported: Path) -> Summary:
    """Return the summary with what only the written model can be measured by."""
    start = trainer.setup
    readers = [start.validation, *([start.beside] if start.beside else [])]
    before, after = start.method.family.measure(
        exported, trainer.run, readers, start.accelerator.device.type
    )
    return replace(
        summary,
        scores=summary.scores | after,
        first_scores=summary.first_scores | before,
    )


def _metrics(trainer: "Trainer") -> Iterator[dict[str, float]]:
    """Yield the metrics of the run, line by line."""
    for line in trainer.setup.folder.metrics.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def _metrics_at(trainer: "Trainer", step: int | None) -> dict[str, float]:
    """Return what an evaluation measured."""
    found: dict[str, float] = {}
    for values in _metrics(trainer):
        found |= values if values["step"] == step else {}
    return found


def _first_metrics(trainer: "Trainer", names: Iterable[str]) -> dict[str, float]:
    """Return the first value that each of some metrics had."""
    found: dict[str, float] = {}
    for values in _metrics(trainer):
        found = score.known(values) | found
    return {name: found[name] for name in names if name in found}


def _best(trainer: "Trainer") -> Path:
    """Return the checkpoint of the best objective; checked by the main process, which reads it."""
    best = trainer.setup.folder.checkpoint(trainer.progress.best_step or 0)
    if trainer.tracker and (wrong := checkpoints.fault(best, trainer.state.run_id)):
        raise TrainingError(f"train.final: the best weights can't be used: {best}: {wrong}")
    return best


def _trained(trainer: "Trainer", checkpoint: Path | None) -> Loaded:
    """Return the network as it was trained, or as a checkpoint has it; all processes must call it.

    Where no process holds everything, the main one loads the base a second time and puts what
    was learnt into it; the others get the model that they have.
    """
    method, updates = trainer.setup.method, trainer.updates
    if not updates.strategy.lockstep:
        if checkpoint:
            trainer.state.load(checkpoint)
        return replace(method.loaded, model=updates.network)
    learnt = (
        load_file(checkpoint / WEIGHTS) if checkpoint else updates.strategy.trainable_state_dict()
    )
    if trainer.tracker is None:
        return method.loaded
    loaded = setup.model(trainer.run, method.family)
    loaded.model.load_state_dict(learnt, strict=False)
    return loaded
