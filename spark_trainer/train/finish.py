"""How a run ends: the trained weights in `final/`, then the summary that seals it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from spark_trainer.data.files import read_json, write_json
from spark_trainer.families import Loaded
from spark_trainer.scores import SCORES
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
    run, folder, accelerator = trainer.run, trainer.folder, trainer.accelerator
    held = trainer.strategy.optimizer_bytes()
    loaded = _trained(trainer, _best(trainer) if run.final == "best" else None)
    if trainer.tracker is None:
        return
    trainer.tracker.close()
    found = trainer.progress
    summary = {
        "steps": step,
        "first_loss": found.get("first"),
        "last_loss": found.get("held_out_loss"),
        "best_loss": found.get("best"),
        "best_step": found.get("best_step"),
        "scores": {name: found[name] for name in SCORES if name in found},
        "final": run.final,
        "device": accelerator.device.type,
        "processes": accelerator.num_processes,
        "optimizer_bytes": held,
        "training_videos": trainer.training.samples.num_videos,
        "validation_videos": trainer.validation.samples.num_videos,
        "left_out_videos": len(trainer.training.samples.left_out),
        "skipped_samples": found["skipped"],
        "cut_texts": found["cut"],
    }
    lineage = read_json(folder / "lineage.json")
    with trainer.averaged():
        final.write(folder / "final", run, trainer.family, loaded, lineage, summary)
    write_json(folder / "trained.json", summary)


def _best(trainer: "Trainer") -> Path:
    """The checkpoint of the least held-out loss; checked by the main process, which reads it."""
    best = checkpoints.path(trainer.state.folder, int(trainer.progress["best_step"]))
    if trainer.tracker and (wrong := checkpoints.fault(best, trainer.order["seal"])):
        raise TrainingError(f"train.final: the best weights can't be used: {best}: {wrong}")
    return best


def _trained(trainer: "Trainer", checkpoint: Path | None) -> Loaded:
    """The network as it was trained, or as a checkpoint has it; all processes must call it.

    Where no process holds everything, the main one loads the base a second time and puts what
    was learnt into it; the others get the model that they have.
    """
    if not trainer.strategy.lockstep:
        if checkpoint:
            trainer.state.load(checkpoint)
        model = trainer.accelerator.unwrap_model(trainer.model)
        return replace(trainer.loaded, model=model)
    learnt = (
        load_file(checkpoint / WEIGHTS) if checkpoint else trainer.strategy.trainable_state_dict()
    )
    if trainer.tracker is None:
        return trainer.loaded
    _, loaded = setup.model(trainer.run)
    loaded.model.load_state_dict(learnt, strict=False)
    return loaded
