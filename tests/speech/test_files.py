"""A list of words, such as names."""

import re
from pathlib import Path

import pytest

from spark_trainer.data.jsonl import Broken
from spark_trainer.speech import files


def test_each_word_once(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffZorvex\r\n\r\n Kelmora Pro \nZorvex\n".encode())
    assert files.words(path, "train.asr.words") == ("Zorvex", "Kelmora Pro")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\n \n", ": expected a word on each line"),
        (b"Zorvex\nGr\xfc\xdfe", ":2: no UTF-8: byte 0xfc"),
        (None, ": No such file or directory"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Broken, match=re.escape(f"train.asr.words: {path}{problem}")):
        files.words(path, "train.asr.words")
