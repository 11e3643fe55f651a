"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from spark_trainer.data.files import read_json, write_json

WEIGHTS = "trainable.safetensors"


def attach(accelerator: Accelerator) -> None:
    """Keep only weights that learn in a checkpoint: the others are the base's, unchanged."""

    def save(models: list[Any], weights: list[Any], folder: str) -> None:
        weights.clear()
        if accelerator.is_main_process:
            save_file(_learning(accelerator.unwrap_model(models[0])), Path(folder) / WEIGHTS)

    def load(models: list[Any], folder: str) -> None:
        model = accelerator.unwrap_model(models.pop())
        model.load_state_dict(load_file(Path(folder) / WEIGHTS), strict=False)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _learning(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Trainable parameters and buffers by name; of tied ones the first."""
    seen = {p.data_ptr() for p in model.parameters() if not p.requires_grad}
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            kept[name] = tensor.contiguous()
    return kept


def save(accelerator: Accelerator, folder: Path, step: int, progress: dict[str, float]) -> None:
    """Write a checkpoint of update `step`; a crash while writing leaves the one before."""
    temporary = folder / ".writing"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(temporary / "step.json", {"step": step, "progress": progress})
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


def resume(accelerator: Accelerator, folder: Path) -> tuple[int, dict[str, float]]:
    """Load the newest checkpoint, if there is one; returns its update and the run's progress."""
    found = sorted(folder.glob("step_*"))
    if not found:
        return 0, {}
    accelerator.load_state(str(found[-1]))
    saved = read_json(found[-1] / "step.json")
    return saved["step"], saved["progress"]
