"""Whether what frozen encoders made still is what they wrote, and what records promise."""

from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.layout import SEALED, Layout
from spark_trainer.steps.record import is_sealed
from spark_trainer.store import finding, ours
from spark_trainer.store.decoding import damage
from spark_trainer.store.finding import Finding

TENSORS, RECORD = ".safetensors", ".json"


def findings(layout: Layout, pool: Executor) -> Iterator[Finding]:
    """Yield what is wrong, encoder by encoder.

    What no record names is no fault: a killed job leaves it, and the next one takes it.

    Args:
        layout: the store.
        pool: of threads that read.
    """
    for folder in sorted(layout.encoded("").glob("*")):
        if not folder.is_dir() or folder.is_symlink():
            yield finding.unknown(folder)
            continue
        lost = list[OSError]()
        paths = [path for path in finding.files(folder, lost) if not _is_marker(path, folder)]
        yield from (finding.unreadable(error, folder) for error in lost)
        for found in pool.map(partial(_looked_into, folder), paths):
            yield from found


def _is_marker(path: Path, folder: Path) -> bool:
    return path.parent == folder / SEALED and not ours.leftover(path.name)


def _looked_into(folder: Path, path: Path) -> list[Finding]:
    return list(_file(folder, path))


def _file(folder: Path, path: Path) -> Iterator[Finding]:
    """Look into a file of some encoders."""
    known = path.suffix in (TENSORS, RECORD) and len(path.relative_to(folder).parts) == 3
    if not known or path.is_symlink() or not path.is_file() or path.name.startswith("."):
        yield finding.unknown(path)
        return
    try:
        if path.suffix == RECORD:
            yield from _record(folder, path)
        elif why := damage(path):
            yield Finding("damaged", str(path), why)
    except OSError as error:
        yield finding.unreadable(error, path)


def _record(folder: Path, path: Path) -> Iterator[Finding]:
    try:
        said = read_json(path, dict)
        named = [folder / str(name) for name in said.get("files") or ()]
    except (Broken, TypeError) as error:
        yield Finding("damaged", str(path), str(error).removeprefix(f"{path}: "))
        return
    if not is_sealed(said):
        yield Finding("edited", str(path), "not as the encoders' job wrote it")
    for one in named:
        if not one.is_file():
            yield Finding("missing", str(one), f"{path.name} promises it")
