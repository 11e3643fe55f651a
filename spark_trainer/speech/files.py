"""The texts of users' files about speech: UTF-8, each trouble named by key, file and line."""

import re
from pathlib import Path

from spark_trainer.data.jsonl import Broken
from spark_trainer.data.plain import lines
from spark_trainer.errors import ABSENT

CONTROL = re.compile(r"<\|[^<|>]*\|>")  # what Whisper takes as a command, such as <|en|>


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
