"""What is wrong with a store, or only remarked; and what a file is that nothing accounts for."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from spark_trainer.data.files import canonical_json
from spark_trainer.errors import told
from spark_trainer.store import ours
from spark_trainer.system import log


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file or folder, or only to be remarked.

    `kind` is one of `source`, `missing`, `damaged`, `edited`, `foreign`, `leftover`, `unreadable`,
    `manifest`, or `orphan`: what nothing reaches any more, until `gc` removes it.
    """

    kind: str
    path: str
    message: str

    def __str__(self) -> str:
        return log.plain(f"{self.path}: {self.message}")

    @property
    def wrong(self) -> bool:
        """Tell whether the store is not as it was written."""
        return self.kind != "orphan"

    def json(self) -> str:
        """Return it as one line of JSON."""
        return canonical_json(asdict(self))


def unreadable(error: OSError, path: Path) -> Finding:
    """Say that the machine could not read something."""
    return Finding("unreadable", str(error.filename or path), told(error))


def told_of(found: Iterable[Finding], path: Path) -> Iterator[Finding]:
    """Yield findings; where the machine can't read on, that is the last one."""
    try:
        yield from found
    except OSError as error:
        yield unreadable(error, path)


def unknown(path: Path, why: str = "not written by SparkTrainer") -> Finding:
    """Tell what a file or folder is that no record names."""
    if ours.leftover(path.name):
        return Finding("leftover", str(path), "left by a process that was killed")
    if path.is_symlink():
        return Finding("foreign", str(path), "a link; SparkTrainer writes none here")
    return Finding("foreign", str(path), why)


def files(folder: Path, lost: list[OSError]) -> Iterator[Path]:
    """Yield all that lies below a folder and is none, sorted; links and leftovers count as files.

    Args:
        folder: where to look; a link to one is followed, those below it are not.
        lost: is given the errors of folders that can't be read.
    """
    for at, below, names in os.walk(folder, onerror=lost.append):
        below.sort()
        ends = [name for name in below if _ends(Path(at, name))]
        below[:] = [name for name in below if name not in ends]
        yield from (Path(at, name) for name in sorted([*names, *ends]))


def _ends(folder: Path) -> bool:
    return folder.is_symlink() or ours.leftover(folder.name)
