"""What a finished run leaves: weights that upstream's `from_pretrained` loads, and their card."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spark_trainer.config import Run
from spark_trainer.data.files import share
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.runs.summary import Summary
from spark_trainer.train import card


def write(
    folder: Path,
    run: Run,
    family: Kind,
    loaded: Loaded,
    lineage: dict[str, Any],
    measured: Callable[[Path], Summary],
) -> Summary:
    """Write the model, what feeds it and its card; a crash leaves what was there before.

    Args:
        folder: where they go.
        run: the settings.
        family: the model's family.
        loaded: the trained model, whole, and what feeds it.
        lineage: what the run is made of.
        measured: returns what came out, given the folder of the written model.

    Returns:
        what came out.

    Raises:
        OSError: the disk is full.
    """
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        family.export(temporary, run, loaded)
        summary = measured(temporary)
    except Exception as error:
        _check_room(temporary, loaded, error)
        raise
    card.write(temporary, run, lineage, summary, family.loading(temporary, run))
    share(path for path in temporary.rglob("*") if path.is_file())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return summary


def _check_room(folder: Path, loaded: Loaded, error: Exception) -> None:
    """Look whether the disk has no room for the weights once more.

    Libraries that write weights tell a full disk by words alone.

    Raises:
        OSError: it has none, from the error that came of it.
    """
    wanted = sum(one.numel() * one.element_size() for one in loaded.model.parameters())
    if shutil.disk_usage(folder).free < wanted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
