"""What a finished run leaves: weights that upstream's `from_pretrained` loads, and their card."""

import shutil
from pathlib import Path
from typing import Any

from spark_trainer import pipelines
from spark_trainer.config import Run
from spark_trainer.families import Family, Films, Loaded, Wanted
from spark_trainer.train import card
from spark_trainer.train.strategies.base import DTYPES

TEXT_USE = """\
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained("final")
model = AutoModelForImageTextToText.from_pretrained("final")"""
# transformers finds the base that an adapter names, where PEFT is installed.
ADAPTER_USE = f"# Needs PEFT; the base is the one that adapter_config.json names.\n{TEXT_USE}"


def write(
    folder: Path,
    run: Run,
    family: Family,
    loaded: Loaded,
    lineage: dict[str, Any],
    summary: dict[str, Any],
) -> None:
    """Write the model, its processor and its card; a crash leaves what was there before.

    Args:
        folder: where they go.
        run: the settings.
        family: the model's family.
        loaded: the trained model, whole, and its processor.
        lineage: what the run is made of.
        summary: what came out.
    """
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    if isinstance(family, Films):
        _component(temporary, run, family, loaded)
    else:
        loaded.model.save_pretrained(temporary)
        if run.finetune != "full" and run.save == "merged":
            _merge(temporary, run, family)
        loaded.processor.save_pretrained(temporary)
    card.write(temporary, run, lineage, summary, _loading(temporary, run, family))
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


def _component(folder: Path, run: Run, family: Films, loaded: Loaded) -> None:
    """The part of the pipeline that learnt, or its adapters, which are put into a freshly loaded
    network where the whole is wanted."""
    model = loaded.model
    if run.finetune == "full":
        family.save(model, folder)
    elif run.save == "adapter":
        pipelines.save_adapter(loaded, family.NETWORK, model, folder)
    else:
        base = family.load(run.model_name, Wanted(dtype=DTYPES[run.mixed_precision])).model
        family.save(pipelines.merged(base, model), folder)


def _loading(folder: Path, run: Run, family: Family) -> card.Loading:
    """How upstream's classes load what is in the folder."""
    if isinstance(family, Films):
        return card.Loading("diffusers", family.TAG, _use(folder, run, family))
    library = "peft" if card.is_adapter(run) else "transformers"
    return card.Loading(library, family.TAG, ADAPTER_USE if card.is_adapter(run) else TEXT_USE)


def _use(folder: Path, run: Run, family: Films) -> str:
    base = card.local(run) or run.model_name
    for part, lines in family.USE.items():
        if (folder / part).is_dir():
            return lines.format(base=base)
    [pipeline] = family.MODEL_TYPES
    return (
        f"from diffusers import {pipeline}\n\n"
        f'pipe = {pipeline}.from_pretrained("{base}")\npipe.load_lora_weights("final")'
    )
