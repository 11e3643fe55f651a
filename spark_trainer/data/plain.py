"""Users' files of text: UTF-8, each trouble named by key, file and line."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from spark_trainer.data.jsonl import UTF8, WIDE, Broken

MOST = 1 << 26  # characters of a field: Python's own limit is shorter than an hour of speech
ZIP = b"PK\x03\x04"  # how Excel's files begin
NO_TEXT = re.compile(r"[\0-\x08\x0e-\x1f\x7f\ud800-\udfff]")  # halves of UTF-16 among them


def head(text: bytes, where: str) -> int:
    """Count the bytes of the mark that a file may begin with.

    Raises:
        Broken: the file is UTF-16, or packed.
    """
    if text.startswith(ZIP):
        raise Broken(f"{where}:1: the file is packed, as Excel's are; expected UTF-8, saved as CSV")
    if text.startswith(WIDE) or b"\0" in text[:4]:
        raise Broken(f"{where}:1: the file is UTF-16; expected UTF-8 (`iconv -f UTF-16 -t UTF-8`)")
    return len(UTF8) if text.startswith(UTF8) else 0


def decoded(line: bytes, where: str) -> str:
    """Return a line as text.

    Raises:
        Broken: it is no UTF-8; `where` names its place.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte, column = line[error.start], error.start + 1
        raise Broken(
            f"{where}: no UTF-8: byte 0x{byte:02x} at column {column} "
            "(`iconv -f WINDOWS-1252 -t UTF-8`)"
        ) from None


def lines(path: Path, key: str) -> list[str]:
    """Read the lines of a small file, without their ends.

    Args:
        path: the file.
        key: the setting that names it.

    Raises:
        Broken: it is no UTF-8.
        OSError: it can't be read.
    """
    return split(path.read_bytes(), f"{key}: {path}")


def split(content: bytes, where: str) -> list[str]:
    """Return the lines of a file's content, without their ends.

    Raises:
        Broken: it is no UTF-8.
    """
    content = content[head(content, where) :]
    read = [decoded(line, f"{where}:{n}") for n, line in enumerate(content.split(b"\n"), start=1)]
    return [line.rstrip("\r") for line in read]


def no_text(value: Any) -> str | None:
    """Name a character that no text has: half of one of UTF-16, or a control character.

    Args:
        value: of JSON; all texts in it are looked at, names among them.
    """
    if isinstance(value, str):
        sign = NO_TEXT.search(value)
        return f"U+{ord(sign[0]):04X}" if sign else None
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    each = map(no_text, inside) if isinstance(inside, list) else ()
    return next(filter(None, each), None)


@dataclass(frozen=True)
class Line:
    """The fields of a line in a CSV file, the place for messages, and the byte of their start.

    A field in quotes may go over several lines of the file; `number` is the first one.
    """

    fields: list[str]
    place: str
    number: int
    offset: int


class Text:
    """The decoded lines of a file, which knows how far it was read: bytes and lines."""

    def __init__(self, file: BinaryIO, where: str, offset: int = 0, number: int = 0) -> None:
        self.where, self.offset, self.number = where, offset, number
        self._file = file

    def __iter__(self) -> "Text":
        return self

    def __next__(self) -> str:
        raw = self._file.readline()
        if not raw:
            raise StopIteration
        mark = 0 if self.offset else head(raw, self.where)
        self.offset += len(raw)
        self.number += 1
        return decoded(raw[mark:], f"{self.where}:{self.number}")


def separated(text: Text, delimiter: str = ",") -> Iterator[Line]:
    """Yield the lines of a CSV file that hold something.

    Raises:
        Broken: the file is no CSV, or no UTF-8.
    """
    csv.field_size_limit(MOST)
    reader = csv.reader(text, strict=True, delimiter=delimiter)
    while True:
        offset, number = text.offset, text.number + 1
        place = f"{text.where}:{number}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise Broken(f"{place}: no CSV: {error}") from None
        if fields is None:
            return
        if fields:
            yield Line(fields, place, number, offset)
