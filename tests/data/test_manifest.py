"""Manifest lines: canonical bytes, and every kind of damage named with its line."""

import json
from pathlib import Path

import pytest

from spark_trainer.data import manifest


def entry(letter: str, folder: Path | None = None) -> manifest.Entry:
    """An entry with two frames and audio; with a folder, the files are made as well."""
    identity = letter * 64
    if folder:
        frames = folder / identity / "frames"
        frames.mkdir(parents=True)
        for number in (1, 2):
            (frames / f"frame_{number:06d}.jpg").write_bytes(b"jpeg")
        (folder / identity / "audio.wav").write_bytes(b"wave")
    return {
        "id": identity,
        "frames_dir": f"{identity}/frames",
        "audio": f"{identity}/audio.wav",
        "meta": {"caption": "überall", "frame_times": [0.0, 1.0]},
    }


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    entries = [entry("a"), entry("b")]
    assert manifest.write(path, entries) == 2
    assert list(manifest.read(path)) == entries
    assert "überall" in path.read_text(encoding="utf-8")


def test_order_of_keys_changes_no_byte(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    manifest.write(one, [entry("a")])
    manifest.write(two, [dict(reversed(entry("a").items()))])
    assert one.read_bytes() == two.read_bytes()


def test_a_sound_manifest_has_no_problems(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    silent = entry("b", tmp_path) | {"audio": None}
    manifest.write(path, [entry("a", tmp_path), silent])
    assert list(manifest.problems(path)) == []


def test_problems_name_line_and_file(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    manifest.write(path, [entry("b", tmp_path), entry("a", tmp_path), entry("a")])
    (tmp_path / ("b" * 64) / "frames" / "frame_000002.jpg").unlink()
    (tmp_path / ("b" * 64) / "audio.wav").unlink()
    found = [problem.removeprefix(f"{path}:") for problem in manifest.problems(path)]
    assert found == [
        f"1: {'b' * 64}/frames holds 1 frames, expected 2",
        f"1: no such file: {'b' * 64}/audio.wav",
        f"2: id out of order or twice: {'a' * 64}",
        f"3: id out of order or twice: {'a' * 64}",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("{", "no JSON"), (json.dumps({"id": "a", "audio": None}), "without frames_dir, meta")],
)
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "manifest.jsonl"
    manifest.write(path, [entry("a")])
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=expected) as caught:
        list(manifest.read(path))
    assert str(caught.value).startswith(f"{path}:2: ")
