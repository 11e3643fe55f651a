"""One build at a time: who holds a store, who is gone, what it left at work."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data import lock
from spark_trainer.errors import UserError
from spark_trainer.system import holder

HOLD = """
import subprocess, sys, time
from pathlib import Path
from spark_trainer.data import lock
print(lock.hold(Path(sys.argv[1])), flush=True)
if sys.argv[2:]:
    below = subprocess.Popen(["sleep", "600"])
    print(below.pid, flush=True)
sys.stdin.read()
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out/.spark/lock"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Start a process that takes the lock, and if it is told so one below it that outlives it."""
    started: list[subprocess.Popen[str]] = []

    def run(*below: str, folder: Path | None = None) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", HOLD, str(path), *below]
        made = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=folder or path.anchor
        )
        started.append(made)
        return made

    yield run
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def wrote(path: Path, **values: Any) -> None:
    """Write a holder's file by hand."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"process": "other-0123abcd-7-7", "host": "other", "pid": 7, "command": "snakemake x"}
    known |= {"folder": "/elsewhere", "since": time.time(), "behind": []}
    path.write_text(json.dumps(known | values), encoding="utf-8")


def test_the_living_are_named_and_left_alone(path: Path, start: Start) -> None:
    first = start()
    assert line(first) == "[]"
    second = start()
    _, errors = second.communicate()
    said = errors.splitlines()[-1]
    assert f"process {first.pid} on {os.uname().nodename}" in said
    assert str(path.parents[1]) in said
    assert "the same command with --unlock" in said


def test_an_ended_one_leaves_nothing(path: Path, start: Start) -> None:
    first = start()
    assert line(first) == "[]"
    first.communicate("")
    assert not path.parents[1].exists()


def test_a_killed_one_is_taken_over(path: Path, start: Start, tmp_path: Path) -> None:
    """Snakemake's locks of its folder go with it, and the folder is kept for the cluster's jobs."""
    locks = tmp_path / "clone/.snakemake/locks"
    locks.mkdir(parents=True)
    first = start(folder=tmp_path / "clone")
    assert line(first) == "[]"
    first.kill()
    first.communicate()
    second = start()
    assert line(second) == f"[{tmp_path / 'clone'!r}]"
    assert not locks.exists()
    second.kill()
    _, errors = second.communicate()
    assert len(errors.splitlines()) == 1
    assert f"taking over from process {first.pid}" in errors
    third = start(folder=tmp_path / "clone")
    assert line(third) == "[PosixPath('/')]"


def test_what_a_killed_one_left_at_work_is_waited_for(start: Start) -> None:
    first = start("and one below it")
    assert line(first) == "[]"
    left = int(line(first))
    try:
        first.kill()
        first.wait()
        second = start()
        assert second.stderr is not None
        assert second.stderr.readline().endswith(f"to start it anew: kill {left}\n")
        assert not select.select([second.stdout], [], [], 2 * lock.POLL_SECONDS)[0]
    finally:
        os.kill(left, signal.SIGKILL)
    assert line(second) != ""


def test_a_number_given_to_a_later_process_is_no_holder(path: Path, start: Start) -> None:
    now = holder.this()
    wrote(path, process=str(holder.Process(now.machine, now.pid, now.start - 1)), pid=now.pid)
    assert line(start()) != ""


def test_another_machine_counts_as_gone_without_signs_of_life(path: Path, start: Start) -> None:
    wrote(path)
    _, errors = start().communicate()
    assert "process 7 on other" in errors
    assert "the same command with --unlock" in errors
    past = time.time() - lock.STALE_SECONDS - 5
    os.utime(path, (past, past))
    assert line(start()) == "[PosixPath('/elsewhere')]"


def test_a_holder_gives_signs_of_life_and_stops_when_taken_for_gone(
    path: Path, tmp_path: Path
) -> None:
    script = HOLD.replace("print(lock", "lock.BEAT_SECONDS = 0.1\nprint(lock", 1)
    command = [sys.executable, "-c", script, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert line(process) == "[]"
        os.utime(path, (0, 0))
        end = time.monotonic() + 60
        while path.stat().st_mtime == 0:
            assert time.monotonic() < end, "it gives no sign of life"
            time.sleep(0.01)
        path.write_text("")  # as another leaves it for an instant while it writes
        time.sleep(0.5)
        wrote(path)
        process.wait(timeout=60)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == -signal.SIGTERM
    assert "taken for gone by process 7 on other" in errors


RUBBISH = {
    "process": (None, 5),
    "folder": (None, 7),
    "since": ("today", 1e300, float("nan")),
    "behind": (None, "abc", [5]),
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in RUBBISH.items() for v in vs])
def test_a_file_of_other_types_is_nobodys(path: Path, start: Start, key: str, value: Any) -> None:
    wrote(path, **{key: value})
    assert line(start()) == "[]"


def test_what_a_later_version_adds_makes_nobody_of_no_holder(path: Path, start: Start) -> None:
    wrote(path, added="something")
    assert "process 7 on other" in start().communicate()[1]


def test_a_link_in_its_place_is_not_written_through(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    path.parent.mkdir(parents=True)
    path.symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        lock.hold(path)
    assert other.read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b'{"pid":', b"\0" * 100, b"[]", b"[" * 60_000])
def test_a_broken_file_is_nobodys(path: Path, start: Start, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert line(start()) == "[]"


def test_of_many_at_once_one_holds(path: Path) -> None:
    """Also where all find the same dead holder."""
    wrote(path, process=f"{holder.machine()}-{2**22 + 1}-5")
    script = "import sys, time\nfrom pathlib import Path\nfrom spark_trainer.data import lock\n"
    script += "lock.hold(Path(sys.argv[1]))\ntime.sleep(90)"
    command = [sys.executable, "-c", script, str(path)]
    started = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(8)]
    end = time.monotonic() + 60
    while len(alive := [one for one in started if one.poll() is None]) > 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(alive) == 1
    for one in started:
        one.kill()
        one.wait()


def test_unlocking_frees(path: Path) -> None:
    wrote(path)
    with pytest.raises(UserError, match="process 7 on other"):
        lock.hold(path)
    lock.clear(path)
    assert not path.exists()


def test_who_holds_it_is_told_without_a_trace(
    path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lock.holder_of(path) is None
    assert not path.parent.exists()
    process = start()
    assert line(process) == "[]"
    written = path.read_bytes()
    found = lock.holder_of(path)
    assert found is not None
    assert found.pid == process.pid
    assert lock.another(path) == found
    monkeypatch.setenv(lock.CALL_VARIABLE, found.process)
    assert lock.another(path) is None
    process.kill()
    process.wait()
    assert lock.holder_of(path) is None
    assert path.read_bytes() == written
