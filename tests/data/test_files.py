"""Digests that never drift and writes that are all or nothing."""

import hashlib
import os
from pathlib import Path

import pytest

from spark_trainer.data import files


def test_one_spelling_for_one_value() -> None:
    assert files.canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'
    assert files.digest({"a": 1, "b": 2}) == files.digest({"b": 2, "a": 1})
    assert files.digest({"a": 1}) != files.digest({"a": 2})


def test_nan_is_no_value() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.canonical_json(float("nan"))


def test_file_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    content = os.urandom(3 * files.CHUNK_BYTES + 17)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert files.file_digest(path) == hashlib.sha256(content).hexdigest()


def test_tree_digest_follows_names_and_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a").write_text("1")
    assert files.tree_digest(one) == files.tree_digest(two)
    (two / "sub" / "a").write_text("2")
    changed = files.tree_digest(two)
    assert changed != files.tree_digest(one)
    (two / "sub" / "a").write_text("1")
    (two / "sub" / "a").rename(two / "a")
    assert files.tree_digest(two) not in (changed, files.tree_digest(one))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "value.json"
    files.write_json(path, {"a": 1})

    def fail_half_way() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail_half_way()
    assert files.read_json(path) == {"a": 1}
    assert [file.name for file in path.parent.iterdir()] == ["value.json"]


def test_names_that_are_no_utf8_survive(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    path = tmp_path / "names.json"
    files.write_json(path, [name])
    assert files.read_json(path) == [name]
    assert len(files.digest([name])) == 64
