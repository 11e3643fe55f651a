"""What a finished run leaves: weights that upstream's `from_pretrained` loads, and their card."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from spark_trainer.config import Run
from spark_trainer.data import files
from spark_trainer.errors import MachineError, of_machine, told
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.metrics.score import WHOLE_FILES
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
        MachineError, OSError: the disk doesn't take it; the space is given back.
    """
    files.sweep(folder.parent)
    with files.replacing_folder(folder) as temporary:
        with _told(folder, temporary):
            family.export(temporary, run, loaded)
            summary = measured(temporary)
        card.write(temporary, run, lineage, summary, family.loading(temporary, run))
        digests = {
            path.relative_to(temporary).as_posix(): files.file_digest(path)
            for path in sorted(temporary.rglob("*"))
            if path.is_file() and path.name != WHOLE_FILES
        }
    return replace(summary, digests=digests)


@contextmanager
def _told(folder: Path, temporary: Path) -> Iterator[None]:
    """Say that the disk is in trouble where upstream's libraries tell no number of the system's.

    The tokenizers' raises `Exception`, torch's `RuntimeError`; so the disk itself is asked.

    Args:
        folder: what the message names.
        temporary: where upstream writes.

    Raises:
        MachineError: nothing more can be written there.
    """
    try:
        yield
    except Exception as error:
        refusal = files.refusal(temporary)
        if refusal or isinstance(error, SafetensorError):
            why = told(refusal or error)
        elif of_machine(error):
            why = told(error)
        else:
            raise
        text = f"{folder}: the weights can't be written: {why}"
        raise MachineError(f"{text}; once they can, the same command goes on") from error
