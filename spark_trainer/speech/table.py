"""A CSV file of references: lines are found by their video's name, and read when asked for.

The index keeps 25 bytes of each line, so that memory hardly grows with the texts.
"""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spark_trainer.data import manifest
from spark_trainer.data.jsonl import Broken, shown
from spark_trainer.data.plain import Line, Text, separated
from spark_trainer.speech.cues import Cue

NAMES = ("id", "path")
COLUMNS = (*NAMES, "text", "start", "end", "language")
EXPECTED = "columns separated by commas: id or path, text, and if known start and end, language"


class Table:
    """A CSV file whose first line names its columns; its videos are numbered from 0 on.

    Args:
        path: the file.
        key: the setting that names it.

    Raises:
        Broken: lines of it are wrong; the message names each.
        OSError: it can't be read.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._where = path, f"{key}: {path}"
        hashes, offsets, numbers, timed = array("Q"), array("q"), array("q"), array("b")
        wrong: list[str] = []
        with open(path, "rb") as file:
            lines = separated(Text(file, self._where))
            self._columns = self._header(next(lines, None))
            for line in lines:
                try:
                    name, cue = self._cue(line)
                except ValueError as error:
                    wrong.append(str(error))
                    continue
                wrong += cue.problems()
                hashes.append(_hash(name))
                offsets.append(line.offset)
                numbers.append(line.number)
                timed.append(cue.start is not None)
        if not hashes and not wrong:
            raise Broken(f"{self._where}: expected a line for each video (the file has none)")
        names_L = np.array(hashes, dtype=np.uint64)  # L lines, V videos
        order_L = np.argsort(names_L, kind="stable")
        self._names_V, self._first_V, self._count_V = np.unique(
            names_L[order_L], return_index=True, return_counts=True
        )
        self._offset_L = np.array(offsets, dtype=np.int64)[order_L]
        self._number_L = np.array(numbers, dtype=np.int64)[order_L]
        wrong += self._twice(np.array(timed, dtype=bool)[order_L])
        if wrong:
            raise Broken("\n".join(manifest.some(wrong)))

    def __len__(self) -> int:
        """Count the videos that it names."""
        return len(self._names_V)

    def numbers(self, name: str) -> Sequence[int]:
        """Return the number of the video that is called so; none where there is none."""
        wanted = np.uint64(_hash(name))
        number = int(np.searchsorted(self._names_V, wanted))
        return [number] if number < len(self) and self._names_V[number] == wanted else []

    def cues(self, number: int) -> list[Cue]:
        """Read what is said in a video."""
        first = int(self._first_V[number])
        places = range(first, first + int(self._count_V[number]))
        with open(self._path, "rb") as file:
            return [self._read(file, place)[1] for place in places]

    def name(self, number: int) -> str:
        """Return what it calls a video."""
        with open(self._path, "rb") as file:
            return self._read(file, int(self._first_V[number]))[0]

    def place(self, number: int) -> str:
        """Return where a video's first line stands: setting, file and line."""
        return f"{self._where}:{self._number_L[self._first_V[number]]}"

    def _read(self, file: BinaryIO, place: int) -> tuple[str, Cue]:
        offset, number = int(self._offset_L[place]), int(self._number_L[place])
        file.seek(offset)
        return self._cue(next(separated(Text(file, self._where, offset, number - 1))))

    def _header(self, line: Line | None) -> list[str]:
        if line is None:
            raise Broken(f"{self._where}:1: expected {EXPECTED} (the file is empty)")
        names = [field.strip() for field in line.fields]
        doubled = len(set(names)) < len(names)
        if doubled or "text" not in names or not {*NAMES} & {*names} or {*names} - {*COLUMNS}:
            raise Broken(f"{line.place}: expected {EXPECTED} (got {shown(','.join(names))})")
        return names

    def _cue(self, line: Line) -> tuple[str, Cue]:
        """Return the name of a line's video, and what is said there.

        Raises:
            Broken: it has too few or too many fields, no name, or times that are no numbers.
        """
        if len(line.fields) != len(self._columns):
            raise Broken(
                f"{line.place}: {len(line.fields)} fields; expected {len(self._columns)}, "
                f"{', '.join(self._columns)}"
            )
        values = dict(zip(self._columns, map(str.strip, line.fields), strict=True))
        name = values.get("id") or values.get("path")
        if not name:
            raise Broken(f"{line.place}: without id or path")
        start, end = (_seconds(values, key, line.place) for key in ("start", "end"))
        return name, Cue(line.place, values["text"], start, end, values.get("language") or None)

    def _twice(self, timed_L: np.ndarray) -> Iterator[str]:
        """Find videos with several lines of which some have no times."""
        for number in np.flatnonzero(self._count_V > 1):
            first, count = int(self._first_V[number]), int(self._count_V[number])
            if not timed_L[first : first + count].all():
                yield (
                    f"{self._where}:{self._number_L[first + 1]}: its video is that of line "
                    f"{self._number_L[first]}; expected start and end in both, or one line"
                )


def _seconds(values: dict[str, str], key: str, place: str) -> float | None:
    value = values.get(key)
    if not value:
        return None
    try:
        return float(value)
    except ValueError:
        raise Broken(f"{place}: {key}: expected seconds (got {shown(value)})") from None


def _hash(name: str) -> int:
    """Return 64 bits that stand for a name, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
