"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from spark_trainer.data.files import read_json, write_json
from spark_trainer.train.sharding import WEIGHTS, Whole


def attach(way: Whole) -> None:
    """Keep only weights that learn in a checkpoint: the others are the base's, unchanged."""
    accelerator = way.accelerator

    def save(models: list[Any], weights: list[Any], folder: str) -> None:
        weights.clear()
        learnt = way.learnt()
        if accelerator.is_main_process:
            save_file(learnt, Path(folder) / WEIGHTS)

    def load(models: list[Any], folder: str) -> None:
        if models:  # those of which every process holds all
            model = accelerator.unwrap_model(models.pop())
            model.load_state_dict(learnt(Path(folder)), strict=False)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def learnt(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights that learn in a checkpoint, and buffers, whole whoever held them."""
    held: dict[str, torch.Tensor] = load_file(checkpoint / WEIGHTS)
    return held


def save(way: Whole, folder: Path, step: int, progress: dict[str, float]) -> None:
    """Write a checkpoint of update `step`; a crash while writing leaves the one before.

    All processes must call it.
    """
    accelerator = way.accelerator
    temporary = folder / ".writing"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    way.save(temporary)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        saved = {"step": step, "progress": progress, "shares": way.shares}
        write_json(temporary / "step.json", saved)
        target = path(folder, step)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    accelerator.wait_for_everyone()


def path(folder: Path, step: int) -> Path:
    """Where the checkpoint of an update lies."""
    return folder / f"step_{step:08d}"


def rotate(folder: Path, keep: int, best: Path) -> None:
    """Delete all but the newest checkpoints and the best one."""
    for old in sorted(folder.glob("step_*"))[:-keep]:
        if old != best:
            shutil.rmtree(old)


def resume(way: Whole, folder: Path) -> tuple[int, dict[str, float]]:
    """Load the newest checkpoint, if there is one; returns its update and the run's progress.

    Raises:
        ValueError: its optimizer is shared out otherwise than this run's.
    """
    found = sorted(folder.glob("step_*"))
    if not found:
        return 0, {}
    saved = read_json(found[-1] / "step.json")
    if (written := saved.get("shares", "whole")) != way.shares:
        raise ValueError(
            f"{found[-1]}: written by {written}, this run is {way.shares}; go on as it was "
            f"written, or delete {folder} to begin anew"
        )
    way.load(found[-1])
    return saved["step"], saved["progress"]
