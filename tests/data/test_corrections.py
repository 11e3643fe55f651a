"""What is corrected by hand is kept, checked whatever it holds, and taken back."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import ConfigError
from spark_trainer.data import corrections
from spark_trainer.data.corrections import Unreadable
from spark_trainer.data.layout import Layout

VIDEO = "ab" * 32
SIGNED = {"author": "Ada", "time": "2026-11-27T09:30:00+00:00"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of corrections, which is not there yet."""
    return tmp_path / "corrections"


def edit(folder: Path, **said: Any) -> corrections.Correction:
    return corrections.edit(folder, Layout(folder.parent), VIDEO, said, "Ada")


def put(folder: Path, content: bytes, name: str = f"{VIDEO}.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_what_is_said_stays_until_it_is_taken_back(folder: Path) -> None:
    assert corrections.every(folder) == {}
    edit(folder, caption="  a dog\nin the snow ", flag="look again")
    now = edit(folder, exclude="no consent", flag=None)
    assert corrections.every(folder) == {VIDEO: now}
    assert {kind: one.model_dump()["text"] for kind, one in now.said.items()} == {
        "caption": "a dog\nin the snow",
        "exclude": "no consent",
    }
    assert {one.author for one in now.said.values()} == {"Ada"}
    edit(folder, caption=None, exclude=None)
    assert list(folder.iterdir()) == []


def test_those_who_edit_at_once_lose_nothing(folder: Path) -> None:
    each = [{"caption": "a dog"}, {"transcript": "wuff"}, {"flag": "?"}, {"exclude": "why"}]
    with ThreadPoolExecutor(len(each)) as pool:
        list(pool.map(lambda said: edit(folder, **said), each * 5))
    assert set(corrections.find(folder, VIDEO).said) == set(corrections.KINDS)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"caption": ""}, "caption.text: expected text that is not empty"),
        ({"caption": "a\0b"}, "caption.text: expected text without U+0000"),
        ({"flag": "\ud83d"}, "flag.text: expected text without U+D83D"),
        ({"flag": "x" * 1001}, "flag.text: expected text of at most 1,000 characters"),
        ({"title": "x"}, "title: unknown; expected some of: caption, transcript, flag, exclude"),
        ({"transcript": {"text": "a", "segments": [{"start": 2, "end": 1, "text": "a"}]}}, "end:"),
    ],
)
def test_what_cannot_be_said(folder: Path, said: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("+", r"\+")) as raised:
        edit(folder, **said)
    assert len(str(raised.value)) < 500
    assert not folder.exists()


def _link(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


GOOD = json.dumps({"video": VIDEO, "caption": {"text": "a", **SIGNED}}).encode()
HOSTILE: dict[str, tuple[bytes, Callable[[Path], None] | None]] = {
    "expected a file of its own, not a link": (GOOD, _link),
    "expected a regular file": (GOOD, _pipe),
    "expected at most 8,388,608": (b" " * (corrections.MOST_BYTES + 1), None),
    "no UTF-8: byte 0xff": (b'{"video": "\xff"}', None),
    "no JSON": (b"", None),
    "too deeply nested": (b"[" * 100_000, None),
    "expected an object": (b"[]", None),
    "caption: expected a section of keys": (
        GOOD.replace(b'{"text"', b'[{"text"', 1)[:-2] + b"}]}",
        None,
    ),
    "caption.text: expected text": (GOOD.replace(b'"a"', b"1"), None),
    "caption.time: expected a time": (GOOD.replace(b"2026-11", b"soon"), None),
    "captoin: unknown key": (GOOD.replace(b"caption", b"captoin"), None),
    "caption.time: missing": (GOOD.replace(b', "time": "2026-11-27T09:30:00+00:00"', b""), None),
    "video: expected a SHA-256 of 64 hexadecimal digits": (GOOD.replace(b"ab", b"AB"), None),
    "expected the video of its name": (GOOD.replace(b"ab", b"cd"), None),
}


@pytest.mark.parametrize("expected", HOSTILE)
def test_a_file_that_is_no_correction_is_named(folder: Path, expected: str) -> None:
    content, act = HOSTILE[expected]
    path = put(folder, content)
    if act:
        act(path)
    with pytest.raises(Unreadable) as raised:
        corrections.every(folder)
    assert str(raised.value).startswith(f"{path}: ")
    assert expected in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_a_file_of_an_editor_for_windows_is_read(folder: Path) -> None:
    put(folder, b"\xef\xbb\xbf" + GOOD.replace(b",", b",\r\n"))
    assert set(corrections.find(folder, VIDEO).said) == {"caption"}


KILLED = """
import os, sys
from pathlib import Path
from spark_trainer.data.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("a secret")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_editor_left_is_swept(folder: Path) -> None:
    path = put(folder, GOOD)
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert len(list(folder.iterdir())) == 2
    edit(folder, flag="look again")
    assert list(folder.iterdir()) == [path]


def test_other_files_may_lie_beside(folder: Path) -> None:
    put(folder, b"ours", "README.md")
    put(folder, b"{", ".hidden.json")
    (folder / ".git").mkdir()
    assert corrections.every(folder) == {}
    path = put(folder, GOOD, "dog.json")
    with pytest.raises(Unreadable, match="expected the hash of a video as its name"):
        corrections.every(folder)
    path.unlink()
