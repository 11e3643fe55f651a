"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

import shutil
from pathlib import Path

from accelerate import Accelerator

from spark_trainer.data.files import read_json, write_json


def save(accelerator: Accelerator, folder: Path, step: int, losses: dict[str, float]) -> None:
    """Write a checkpoint of update `step`; a crash while writing leaves the one before."""
    temporary = folder / ".writing"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(temporary / "step.json", {"step": step, "losses": losses})
        target = folder / f"step_{step:08d}"
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    accelerator.wait_for_everyone()


def rotate(folder: Path, keep: int) -> None:
    """Delete all but the newest checkpoints."""
    for old in sorted(folder.glob("step_*"))[:-keep]:
        shutil.rmtree(old)


def resume(accelerator: Accelerator, folder: Path) -> tuple[int, dict[str, float]]:
    """Load the newest checkpoint, if there is one; returns its update and held-out losses."""
    found = sorted(folder.glob("step_*"))
    if not found:
        return 0, {}
    accelerator.load_state(str(found[-1]))
    saved = read_json(found[-1] / "step.json")
    return saved["step"], saved["losses"]
