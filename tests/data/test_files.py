"""Digests that never drift and writes that are all or nothing."""

import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spark_trainer.data import files
from spark_trainer.errors import of_machine


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


def test_whoever_the_umask_lets_read_can_read_what_safetensors_writes(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (tmp_path / "usual").touch()
    with files.replacing(tmp_path / "alone.safetensors") as path:
        save_file({"a": torch.zeros(1)}, path)
    with files.replacing_folder(tmp_path / "folder") as folder:
        save_file({"a": torch.zeros(1)}, folder / "inside.safetensors")
    modes = {path.stat().st_mode for path in tmp_path.rglob("*") if path.is_file()}
    assert len(modes) == 1


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


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    with files.replacing_folder(path) as folder:
        (folder / "deep").mkdir()
        (folder / "deep/a").write_text("1")

    def fail_half_way() -> None:
        with files.replacing_folder(path) as folder:
            (folder / "b").write_text("half")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail_half_way()
    assert [file.name for file in tmp_path.iterdir()] == ["frames"]
    assert (path / "deep/a").read_text() == "1"


def test_many_writers_of_one_folder_leave_one_whole(tmp_path: Path) -> None:
    """Each writes two files of its own; never do two writers' files lie together."""
    path = tmp_path / "frames"

    def write(number: int) -> None:
        with files.replacing_folder(path) as folder:
            (folder / "first").write_text(str(number))
            (folder / "last").write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    assert (path / "first").read_text() == (path / "last").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["frames"]


WRITER = """
import sys, time
from pathlib import Path
from spark_trainer.data import files
folder = Path(sys.argv[1])
with files.replacing(folder / "a") as file, files.replacing_folder(folder / "b") as below:
    file.write_text("half")
    (below / "c").write_text("half")
    print("there", flush=True)
    time.sleep(600)
"""


def test_what_the_dead_left_is_swept_and_the_livings_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "there\n"
        (tmp_path / ".a.other-0123abcd-7-7.12345678.tmp").touch()
        files.sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3
        writer.kill()
    files.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".a.other-0123abcd-7-7.12345678.tmp"]
    os.utime(next(tmp_path.iterdir()), (0, 0))
    files.sweep(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b'{"a":', b"\xff\xfe\x00", b"[" * 99999])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "frames.json"
    path.write_bytes(content)
    with pytest.raises(files.Broken, match=re.escape(str(path))) as caught:
        files.read_json(path)
    assert of_machine(caught.value)
    assert len(str(caught.value)) < 300


def test_another_kind_of_value_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "frames.json"
    files.write_json(path, [1])
    with pytest.raises(files.Broken, match="expected dict, got list"):
        files.read_json(path, dict)


def test_no_space_says_where(tmp_path: Path) -> None:
    """The size limit of a process stands for a full disk: both fail as the bytes are written."""
    script = f"""
import resource, signal
from pathlib import Path
from spark_trainer.data import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
files.write_text(Path({str(tmp_path)!r}) / "big", "x" * 1000)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.endswith(f"File too large: '{tmp_path}/big'\n")
    assert not list(tmp_path.iterdir())
