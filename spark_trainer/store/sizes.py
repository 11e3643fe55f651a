"""How many files something is, and how large."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Size:
    """Files, and their bytes as the file system says them."""

    files: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        files = "1 file" if self.files == 1 else f"{self.files:,} files"
        return f"{files}, {spelled(self.bytes)}"

    def __add__(self, other: "Size") -> "Size":
        return Size(self.files + other.files, self.bytes + other.bytes)

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Self:
        """Measure files, and folders with all that lies below them; links count as themselves.

        A file that goes meanwhile, as beside a build, counts as none.
        """
        files = total = 0
        for path in paths:
            for one in _files(path):
                with contextlib.suppress(FileNotFoundError):
                    files, total = files + 1, total + one.lstat().st_size
        return cls(files, total)


def _files(path: Path) -> Iterable[Path]:
    if path.is_symlink() or not path.is_dir():
        return [path]
    return [Path(at, name) for at, _, names in os.walk(path) for name in names]


def spelled(count: float) -> str:
    """Return a number of bytes in the unit that suits it: 12.3 MB."""
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} {UNITS[unit]}" if unit == 0 else f"{count:.1f} {UNITS[unit]}"
