"""The texts of users' files about speech: UTF-8, each trouble named by key, file and line."""

import re
from pathlib import Path

from spark_trainer.data.jsonl import UTF8, WIDE, Broken
from spark_trainer.errors import ABSENT

CONTROL = re.compile(r"<\|[^<|>]*\|>")  # what Whisper takes as a command, such as <|en|>
NO_TEXT = re.compile(r"[\0-\x08\x0e-\x1f\x7f\ud800-\udfff]")  # halves of UTF-16 among them


def head(text: bytes, where: str) -> int:
    """Count the bytes of the mark that a file may begin with.

    Raises:
        Broken: the file is UTF-16.
    """
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
    content = path.read_bytes()
    where = f"{key}: {path}"
    content = content[head(content, where) :]
    read = [decoded(line, f"{where}:{n}") for n, line in enumerate(content.split(b"\n"), start=1)]
    return [line.rstrip("\r") for line in read]


def words(path: Path, key: str) -> tuple[str, ...]:
    """Read a list of words, such as names: one a line, each once; empty lines count for nothing.

    Args:
        path: the file.
        key: the setting that names it.

    Raises:
        Broken: it is not there, no UTF-8, or holds no word.
    """
    try:
        found = dict.fromkeys(line.strip() for line in lines(path, key))
    except (*ABSENT, PermissionError) as error:
        raise Broken(f"{key}: {path}: {error.strerror}") from None
    found.pop("", None)
    if not found:
        raise Broken(f"{key}: {path}: expected a word on each line (the file has none)")
    return tuple(found)
