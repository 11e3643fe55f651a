"""JSON lines: an object on each line, with the place of each, however large the file is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from spark_trainer.errors import UserError

LONGEST_LINE = 1 << 28  # bytes: a day of frames at 60 a second takes a sixth of it
MOST_DIGITS = 300  # of a whole number; more than 308 are no floating-point number any more
UTF8, WIDE = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")  # what marks a file's encoding


class Broken(UserError, ValueError):
    """A file with lines that are not what they should be; the message names each."""


def texts(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Read number, offset and bytes of each line that holds something.

    Raises:
        Broken: the file is none of JSON lines.
        OSError: it can't be read.
    """
    with _opened(path) as file:
        number = offset = 0
        while text := file.readline(LONGEST_LINE + 1):
            number, start = number + 1, offset
            offset += len(text)
            if number == 1:
                start += _head(path, text)
                text = text[start:]
            if len(text) > LONGEST_LINE:
                raise Broken(
                    f"{path}:{number}: longer than {LONGEST_LINE:,} bytes; expected one video"
                )
            if text.strip():
                yield number, start, text


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except (IsADirectoryError, PermissionError) as error:
        raise Broken(f"{path}: {error.strerror}") from None


def _head(path: Path, text: bytes) -> int:
    """Count the bytes before the first line's own.

    Raises:
        Broken: it is the beginning of something else.
    """
    if text.startswith(WIDE) or b"\0" in text[:4]:
        raise Broken(f"{path}:1: the file is UTF-16; expected UTF-8 (`iconv -f UTF-16 -t UTF-8`)")
    mark = len(UTF8) if text.startswith(UTF8) else 0
    if text[mark:].lstrip().startswith(b"["):
        raise Broken(
            f"{path}:1: the file is a JSON array; expected an object on each line "
            "(`jq -c '.[]' list.json > manifest.jsonl`)"
        )
    return mark


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"no JSON: {name} is no number; expected null")


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits; expected at most {MOST_DIGITS}")
    return int(digits)


_decode = json.JSONDecoder(parse_constant=_no_number, parse_int=_whole).decode


def parsed(text: bytes) -> dict[str, Any]:
    """Return the object that a line holds.

    Raises:
        ValueError: it holds none.
    """
    try:
        value = _decode(text.decode())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"no UTF-8: byte 0x{text[error.start]:02x} at column {error.start + 1}"
        ) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at column {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("no JSON that can be read: too deeply nested") from None
    if type(value) is not dict:
        raise ValueError(f"expected an object (got {shown(value)})")
    return value


def is_of(line: bytes, name: str) -> bool:
    """Tell whether a line holds an object whose `id` is this name."""
    if name.encode() not in line:
        return False
    try:
        return parsed(line).get("id") == name
    except ValueError:
        return False


def shown(value: Any) -> str:
    """Return the beginning of a value, as JSON spells it."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
