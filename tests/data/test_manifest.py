"""Manifest lines: canonical bytes, and every kind of damage named with its line."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import Run
from spark_trainer.data import dataset, jsonl, manifest


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
        "3: its id is that of line 2",
    ]


def line(**keys: Any) -> bytes:
    return json.dumps(entry("a") | keys).encode()


def meta(**keys: Any) -> bytes:
    return line(meta=keys)


WRONG = {
    "no JSON": (b"{", "no JSON: Expecting property name"),
    "null": (b"null", "expected an object (got null)"),
    "list": (b"[1]", "expected an object (got [1])"),
    "number": (b"7", "expected an object (got 7)"),
    "deep": (b"[" * 100_000, "too deeply nested"),
    "missing": (b'{"id": "a", "audio": null}', "without frames_dir, meta"),
    "latin-1": (line().replace(b"\\u00fc", b"\xfc"), "no UTF-8: byte 0xfc at column"),
    "NaN": (meta(caption=float("nan")), "NaN is no number"),
    "Infinity": (meta(other=float("inf")), "Infinity is no number"),
    "overflow": (line(meta={"duration": 1}).replace(b": 1", b": 1e999"), "meta.duration: expected"),
    "digits": (line(meta={"other": 7}).replace(b": 7", b": 1" + b"0" * 400), "of 401 digits"),
    "long path": (line(frames_dir="f/" + "x" * 256), "is no name of a file"),
    "id null": (line(id=None), "id: expected a name (got null)"),
    "id empty": (line(id=""), "id: expected a name"),
    "id path": (line(id="../../x"), "id: expected a name without /"),
    "id long": (line(id="x" * 256), "id: expected at most 255 bytes"),
    "id half": (line(id="x\ud83d"), "id: expected a name without /"),
    "absolute": (line(frames_dir="/etc"), "frames_dir: expected a path below the manifest's own"),
    "outside": (line(audio="a/../../b.wav"), "audio: expected a path below the manifest's own"),
    "empty path": (line(frames_dir=""), 'frames_dir: "" is no name of a file'),
    "NUL": (line(frames_dir="a\0b"), "is no name of a file"),
    "path list": (line(frames_dir=["f"]), 'frames_dir: expected a path or null (got ["f"])'),
    "meta null": (line(meta=None), "meta: expected a mapping (got null)"),
    "caption list": (
        meta(caption=["x", "y"]),
        'meta.caption: expected a text or null (got ["x", "y"])',
    ),
    "caption number": (meta(caption=5), "meta.caption: expected a text or null (got 5)"),
    "duration text": (meta(duration="6"), 'meta.duration: expected a number or null (got "6")'),
    "duration flag": (meta(duration=True), "meta.duration: expected a number"),
    "width fraction": (meta(width=640.5), "meta.width: expected a whole number"),
    "times": (meta(frame_times=[0.0, None]), "meta.frame_times[1]: expected a number (got null)"),
    "times back": (meta(frame_times=[1.0, 0.0]), "meta.frame_times: expected seconds from 0 on"),
    "segments": (meta(segments=[{"text": 1}]), "meta.segments[0].text: expected a text or null"),
    "pose out": (
        meta(pose={"dir": "../p", "fps": 1.0, "frames": 1}),
        "meta.pose.dir: expected a path",
    ),
    "pose part": (meta(pose={"dir": "p"}), "meta.pose: expected dir, fps, frames"),
    "own folder": (meta(pose_dir="/p"), "meta.pose_dir: expected a path below"),
}


@pytest.mark.parametrize("case", WRONG)
def test_validation_and_training_refuse_the_same_lines_in_the_same_words(
    case: str, tmp_path: Path
) -> None:
    text, expected = WRONG[case]
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(line(id="b", frames_dir=None, audio=None) + b"\n" + text + b"\n")
    (problem,) = manifest.problems(path)
    assert problem.startswith(f"{path}:2: ")
    assert expected in problem
    with pytest.raises(jsonl.Broken) as caught:
        dataset.read(path, tmp_path, Run(), one_frame=True)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    "spelled",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\n\n" + text.replace(b"\n", b"\n \n"),
        lambda text: text.rstrip(),
    ],
    ids=["mark", "CRLF", "blank lines", "no last line break"],
)
def test_what_editors_do_to_a_file_changes_nothing(
    spelled: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(spelled(line(id="any name") + b"\n" + line(id="ein Häs'chen") + b"\n"))
    assert [found["id"] for found in manifest.read(path)] == ["any name", "ein Häs'chen"]
    run = Run(split={"validation": 0})
    samples = dataset.read(path, tmp_path, run, one_frame=False)["train"]
    assert [samples.video(n) for n in range(len(samples))] == ["any name", "ein Häs'chen"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (line().decode().encode("utf-16"), "the file is UTF-16; expected UTF-8"),
        (line().decode().encode("utf-16-le"), "the file is UTF-16; expected UTF-8"),
        (b"[" + line() + b"]", "the file is a JSON array; expected an object on each line"),
        (b"\xef\xbb\xbf  [\n" + line() + b"]", "the file is a JSON array"),
    ],
)
def test_another_kind_of_file_is_named(text: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(text)
    (problem,) = manifest.problems(path)
    assert problem.startswith(f"{path}:1: ")
    assert expected in problem


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    assert list(manifest.problems(tmp_path)) == [f"{tmp_path}: Is a directory"]


def test_many_problems_are_named_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b"".join(line(id=str(n), audio=n) + b"\n" for n in range(50)))
    with pytest.raises(jsonl.Broken) as caught:
        list(manifest.read(path))
    named = str(caught.value).splitlines()
    assert named[0] == f"{path}:1: audio: expected a path or null (got 0)"
    assert named[19].startswith(f"{path}:20: ")
    assert named[20:] == ["and 30 more"]


def test_what_training_leaves_out_is_a_problem_too(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(meta(caption="hi \ud83d", frame_times=[0.0]) + b"\n")
    found = "\n".join(manifest.problems(path))
    assert "holds 0 frames, expected 1" in found
    assert "no such file: " in found
    assert "half a character" in found
    run = Run(split={"validation": 0})
    samples = dataset.read(path, tmp_path, run, one_frame=False)["train"]
    assert samples.left_out == [("a" * 64, "its text holds half a character, '\\ud83d'")]


def test_a_link_of_ones_own_may_lead_out(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/frame_000001.jpg").write_bytes(b"jpeg")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/frames").symlink_to(tmp_path / "elsewhere")
    path = tmp_path / "here/manifest.jsonl"
    path.write_bytes(line(frames_dir="frames", audio=None, meta={}))
    assert list(manifest.problems(path)) == []


def test_bytes_that_are_no_text_still_make_a_file_of_utf_8(tmp_path: Path) -> None:
    """A folder's name keeps them, because it must be found again; a text does not."""
    name = os.fsdecode(b"caf\xe9")
    path = tmp_path / "manifest.jsonl"
    odd = entry("a") | {"frames_dir": f"{name}/frames", "meta": {"caption": "hi \ud83d", "x": name}}
    manifest.write(path, [odd])
    path.read_text(encoding="utf-8")
    (found,) = manifest.read(path)
    assert found["frames_dir"] == f"{name}/frames"
    assert found["meta"] == {"caption": "hi \ufffd", "x": "caf\ufffd"}
