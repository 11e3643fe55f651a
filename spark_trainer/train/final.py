"""What a finished run leaves: weights that upstream's `from_pretrained` loads, and their card."""

import shutil
from pathlib import Path
from typing import Any

from spark_trainer.config import Run
from spark_trainer.families import Family, Loaded, Wanted
from spark_trainer.train import card


def write(
    folder: Path,
    run: Run,
    family: Family,
    loaded: Loaded,
    model: Any,
    lineage: dict[str, Any],
    summary: dict[str, Any],
) -> None:
    """Write the model, its processor and its card; a crash leaves what was there before.

    Args:
        folder: where they go.
        run: the settings.
        family: the model's family.
        loaded: the model and processor as they were loaded.
        model: the network in training, unwrapped.
        lineage: what the run is made of.
        summary: what came out.
    """
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    if run.finetune != "full" and run.save == "merged":
        _merge(temporary, run, family)
    loaded.processor.save_pretrained(temporary)
    card.write(temporary, run, lineage, summary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _merge(folder: Path, run: Run, family: Family) -> None:
    """Put the adapter in `folder` into a freshly loaded base, which is exact whatever it was
    trained over: four-bit weights would be rounded a second time."""
    from peft import PeftModel

    base = family.load(run.model_name, Wanted(dtype="auto")).model
    merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    shutil.rmtree(folder)
    merged.save_pretrained(folder)
