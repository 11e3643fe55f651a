"""Videos that are not to be seen again: a small file each, which stays when all else of it is gone.

It is written before anything is removed, so that a removal that was cut short can be finished, and
no build takes the video up meanwhile, under whatever name it lies.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Self

from spark_trainer.data.files import Broken, read_json, write_json
from spark_trainer.data.hashing import Cache
from spark_trainer.data.layout import Layout
from spark_trainer.data.search import Search


@dataclass(frozen=True)
class Tombstone:
    """What is kept of a forgotten video.

    Attributes:
        video: its hash.
        at: when, as in ISO 8601.
        by: the user who asked for it.
        reason: why, in the user's words; may be empty.
        runs: names of the run folders whose model saw it.
        finished: whether all that derived from it is gone.
        files: the size and time of each file that still holds it, so that none is read at every
            build; beside this file nothing of the store says its hash.
    """

    video: str
    at: str
    by: str
    reason: str
    runs: Sequence[str] = ()
    finished: bool = False
    files: dict[str, list[int]] = field(default_factory=dict)

    def __str__(self) -> str:
        said = f"forgotten on {self.at[:10]} by {self.by}"
        unfinished = "" if self.finished else f"; not all of it is gone: forget {self.video} again"
        return said + (f": {self.reason}" if self.reason else "") + unfinished

    def write(self, layout: Layout) -> None:
        """Write it; it is on disk when this returns."""
        write_json(layout.forgotten / f"{self.video}.json", asdict(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it.

        Raises:
            Broken: the file holds none.
            OSError: it can't be read.
        """
        said = read_json(path, dict)
        known = {one.name for one in fields(cls)}
        try:
            found = cls(**{name: value for name, value in said.items() if name in known})
        except TypeError as error:
            raise Broken(path, str(error)) from None
        if found.video != path.stem:
            raise Broken(path, "it is of another video than its name says")
        return found


def every(layout: Layout) -> dict[str, Tombstone]:
    """Read all of a store: hash -> what is kept of the video.

    Raises:
        Broken: one of them is damaged. Nothing is built then, as the video might come back.
        OSError: one can't be read.
    """
    found = map(Tombstone.read, sorted(layout.forgotten.glob("*.json")))
    return {one.video: one for one in found}


def rows(gone: dict[str, Tombstone]) -> Cache:
    """Return the rows of the files whose content is not to be seen again."""
    files = (
        (path, video, noted) for video, one in gone.items() for path, noted in one.files.items()
    )
    return {path: (size, mtime_ns, video) for path, video, (size, mtime_ns) in files}


def leave_out(search: Search, hashes: dict[str, str], gone: dict[str, Tombstone]) -> None:
    """Take what is not to be seen again out of what was found."""
    why = {file: gone[hashes[file.path]] for file in search.files if hashes[file.path] in gone}
    search.forgotten |= {file: str(one) for file, one in why.items()}
    search.files = [file for file in search.files if file not in why]


def note(
    layout: Layout, search: Search, hashes: dict[str, str], gone: dict[str, Tombstone]
) -> None:
    """Note where what is not to be seen again lies, so that the next call need not read it."""
    files: dict[str, dict[str, list[int]]] = {video: {} for video in gone}
    for file in search.forgotten:
        files[hashes[file.path]][file.path] = [file.size, file.mtime_ns]
    for video, one in gone.items():
        if files[video] != one.files:
            replace(one, files=files[video]).write(layout)
