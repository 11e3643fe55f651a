"""What a format writes of: the videos of each split, their files, and the files beside them.

The same store and settings leave the same bytes: lines are in the manifest's order, JSON has one
spelling, nothing tells a time.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spark_trainer.config import Export
from spark_trainer.data.dataset import SplitName
from spark_trainer.data.files import canonical_json, read_json
from spark_trainer.data.layout import Layout
from spark_trainer.data.manifest import entry_at
from spark_trainer.data.meta import KEYS
from spark_trainer.data.sources import NO_LINKS
from spark_trainer.errors import MachineError
from spark_trainer.exports.clips import Chosen, Clip, Clips

PLAIN = {"string": str, "int64": int, "float64": float, "bool": bool}  # of features


@dataclass(frozen=True)
class DataSet:
    """An export while it is written.

    Attributes:
        clips: its videos.
        chosen: which lines of the manifest they are.
        root: the folder that is written in.
        folder: where that will lie, as tools get told.
        advance: is called for each video whose file is there.
    """

    all: Clips
    chosen: Chosen
    root: Path
    folder: Path
    advance: Callable[[], object] = lambda: None

    @property
    def settings(self) -> Export:
        """Return the settings."""
        return self.all.settings

    @property
    def layout(self) -> Layout:
        """Return the store."""
        return self.all.layout

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """Name the splits that have videos."""
        return tuple(self.chosen.offsets)

    @cached_property
    def features(self) -> dict[str, Any]:
        """Return the types of the manifest's keys, as `datasets` spells them."""
        return dict(read_json(self.layout.manifest.with_suffix(".features.json"), dict))

    @cached_property
    def facts(self) -> dict[str, type]:
        """Return the plain keys that the user's labels add to `meta`, and their types."""
        told = {key: kind for key, kind in self.features["meta"].items() if key not in KEYS}
        plain = {key: kind.get("dtype") for key, kind in told.items() if "dtype" in kind}
        return {key: PLAIN[kind] for key, kind in plain.items()}

    def clips(self, split: SplitName) -> Iterator[Clip]:
        """Yield the videos of a split, in the manifest's order."""
        for offset in self.chosen.offsets[split]:
            entry = entry_at(self.layout.manifest, offset)
            yield self.all.clip(entry, split, self.chosen.names)

    def place(self, clip: Clip) -> str:
        """Put a video's file where `media` says.

        Returns:
            Its path below the folder, or where it lies if the export does not hold it.
        """
        self.advance()
        if self.settings.media == "none":
            return str(clip.source)
        path = f"{clip.split}/{clip.file}"
        target = self.root / path
        target.parent.mkdir(exist_ok=True)
        if self.settings.media == "copy":
            shutil.copyfile(clip.source, target)
        else:
            link(clip.source, target)
        return path

    def placed(self, clip: Clip) -> str:
        """Put a video's file as `place`; return its whole path."""
        return os.path.join(self.folder, self.place(clip))

    @contextlib.contextmanager
    def lines(self, name: str) -> Iterator[Callable[[Any], object]]:
        """Yield a function that writes values as lines of JSON into a file."""
        with self.opened(name) as file:
            yield lambda value: file(f"{canonical_json(value)}\n")

    @contextlib.contextmanager
    def array(self, name: str, key: str = "") -> Iterator[Callable[[Any], object]]:
        """Yield a function that writes values into an array of JSON.

        Args:
            name: of the file.
            key: of the array, if the file is an object that holds it.
        """
        between = f'{{"{key}":[\n' if key else "[\n"
        with self.opened(name) as file:

            def add(value: Any) -> None:
                nonlocal between
                file(f"{between}{canonical_json(value)}")
                between = ",\n"

            yield add
            file("\n]}\n" if key else "\n]\n")

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Callable[[str], object]]:
        """Yield a function that writes text into a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            yield file.write

    def write(self, name: str, text: str) -> None:
        """Write a file of text."""
        with self.opened(name) as add:
            add(text)


def link(source: Path, target: Path) -> None:
    """Make a symbolic link.

    Raises:
        MachineError: the file system has none.
    """
    try:
        target.symlink_to(source)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        raise MachineError(
            f"{target.parent}: no links can be made here ({error.strerror}); expected media: copy"
        ) from None
