"""Leases between real processes, which are killed where it hurts."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.system import gpu
from spark_trainer.system.gpu import leases, registry

from .conftest import ROOT, until
from .test_driver import ONE, ROWS, TWO, WHOLE, A, B

Start = Callable[..., Any]


def never(text: str) -> None:
    raise AssertionError(text)


def take(count: int = 1, fraction: float = 1.0) -> tuple[str, ...]:
    """Lease at once or fail; returns the devices, which are free again."""
    with gpu.lease(count, fraction, waiting=never) as lease:
        return lease.devices


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices that no driver knows."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One device that no driver knows."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


@pytest.mark.parametrize(
    ("count", "fraction", "message"),
    [
        (3, 1.0, "GPUs asked for: 3, visible here: 2 (CUDA_VISIBLE_DEVICES is '0,1')"),
        (0, 1.0, "number of GPUs: expected at least 1 (got 0)"),
        (1, 0.0, "fraction of a GPU: expected above 0 and at most 1 (got 0)"),
        (1, 1.5, "fraction of a GPU: expected above 0 and at most 1 (got 1.5)"),
        (1, math.nan, "fraction of a GPU: expected above 0 and at most 1 (got nan)"),
    ],
)
def test_what_can_never_be_had(two: None, count: int, fraction: float, message: str) -> None:
    with pytest.raises(gpu.NoDevice) as error, gpu.lease(count, fraction, waiting=never):
        pass
    assert str(error.value) == message


def test_no_device_at_all() -> None:
    with pytest.raises(gpu.NoDevice, match=r"^GPUs asked for: 1, visible here: 0$"), gpu.lease():
        pass


def test_environment(two: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with gpu.lease(2) as lease:
        assert lease.environment["CUDA_VISIBLE_DEVICES"] == "0,1"
        assert lease.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
        assert lease.environment["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    assert gpu.holders() == []
    assert list((tmp_path / "leases").iterdir()) == []


def test_what_a_file_says(one: None, start: Start) -> None:
    before = time.time()
    holder = start(fraction=0.5, what="x" * 100_000 + os.fsdecode(b"caf\xe9"))
    holder.devices()
    (found,) = gpu.holders()
    assert (found.device, found.fraction, found.pid, found.job) == ("0", 0.5, holder.pid, None)
    assert found.what.endswith(os.fsdecode(b"caf\xe9"))
    assert found.host == os.uname().nodename
    assert before <= found.since <= time.time()
    str(found).encode()


def test_idle_first_then_the_fullest_with_room(two: None) -> None:
    with gpu.lease(1, 0.25, waiting=never) as a, gpu.lease(1, 0.5, waiting=never) as b:
        assert (a.devices, b.devices) == (("0",), ("1",))
        with gpu.lease(1, 0.25, waiting=never) as c:
            assert c.devices == ("1",)
            assert take(1, 0.75) == ("0",)


def test_three_thirds_are_a_whole(one: None) -> None:
    third, tenth = 1 / 3, 0.1
    with gpu.lease(1, third), gpu.lease(1, third):
        assert take(1, third) == ("0",)
    with gpu.lease(1, tenth), gpu.lease(1, tenth), gpu.lease(1, tenth):
        assert take(1, 0.7) == ("0",)


def test_waits_tells_once_and_goes_on(one: None, start: Start) -> None:
    holder = start(fraction=0.75, what="caption b01")
    holder.devices()
    assert take(1, 0.25) == ("0",)
    told: list[str] = []

    def release(text: str) -> None:
        told.append(text)
        holder.end()

    with gpu.lease(1, 0.5, waiting=release) as lease:
        assert lease.devices == ("0",)
    [said] = told
    held = f"held are 0: 0.75 by process {holder.pid} for "
    assert re.fullmatch(rf"waiting for 0\.5 of 1 of 1 GPUs, {held}\d+ s \(caption b01\)", said)


def test_a_wait_is_logged_as_a_warning(one: None, start: Start) -> None:
    first = start(what="train a")
    first.devices()
    second = start(what="train b")
    second.wait_for("waiting for")
    time.sleep(0.5)  # it asks again and again meanwhile
    first.end()
    assert second.devices() == "0"
    errors = second.end()
    assert errors.count("waiting for") == 1
    assert "(train a)" in errors


def test_several_at_once_or_none(two: None, start: Start) -> None:
    """Who waits for two holds none meanwhile."""
    first = start(what="one of two")
    assert first.devices() == "0"
    pair = start(count=2, what="two of two")
    pair.wait_for("waiting for")
    assert [holder.what for holder in gpu.holders()] == ["one of two"]
    assert take(1) == ("1",)
    first.end()
    assert pair.devices() == "0,1"
    assert {holder.what for holder in gpu.holders()} == {"two of two"}


def test_a_killed_holder_frees_its_devices(two: None, start: Start, tmp_path: Path) -> None:
    holder = start(count=2)
    holder.devices()
    assert len(gpu.holders()) == 2
    holder.process.kill()
    holder.process.wait()
    assert len(list((tmp_path / "leases").iterdir())) == 2
    assert take(2) == ("0", "1")
    assert list((tmp_path / "leases").iterdir()) == []


def test_an_index_and_a_uuid_are_one_device(install: Any, start: Start) -> None:
    install(WHOLE, ROWS)
    holder = start({"CUDA_VISIBLE_DEVICES": f"{B[:14]},{A}"}, count=1)
    assert holder.devices() == B[:14]
    assert take(1) == ("0",)
    assert take(1, 0.5) == ("0",)
    told: list[str] = []
    with gpu.lease(2, waiting=lambda text: (told.append(text), holder.end())):
        assert "held are 1: 1 by process" in told[0]


def test_mig_instances_are_devices(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{ONE},{TWO}")
    holder = start()
    assert holder.devices() == ONE
    assert take(1) == (TWO,)


def test_slurm_jobs_are_kept_apart(one: None, start: Start) -> None:
    job = {"SLURM_JOB_ID": "71"}
    first = start(job)
    assert first.devices() == "0"
    second = start({"SLURM_JOB_ID": "7"})
    assert second.devices() == "0"
    assert gpu.holders() == []
    assert take() == ("0",)
    third = start(job)
    third.wait_for("waiting for")
    first.end()
    assert third.devices() == "0"
    assert "waiting for" in third.end()


CHILD = """
import os, subprocess, sys
from spark_trainer.system import gpu
code = "import sys; print('here', flush=True); sys.stdin.read()"
if sys.argv[1] == "adopts":
    code = "from spark_trainer.system import gpu; gpu.hold(); " + code
with gpu.lease() as lease:
    held = lease.descriptors if sys.argv[1] == "inherits" else ()
    environment = os.environ | lease.environment
    child = subprocess.Popen([sys.executable, "-c", code], env=environment, pass_fds=held)
    child.wait()
"""


@pytest.mark.parametrize(("way", "stays"), [("inherits", 1), ("adopts", 1), ("neither", 0)])
def test_a_child_keeps_the_lease_of_a_killed_parent(one: None, way: str, stays: int) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    assert parent.stdin
    assert parent.stdout.readline() == "here\n"
    parent.kill()
    parent.wait()
    assert [holder.pid for holder in gpu.holders()] == [parent.pid] * stays
    parent.stdin.close()
    until(lambda: not gpu.holders())
    assert take() == ("0",)
    parent.stdout.close()


def test_a_child_may_outlive_the_lease(one: None) -> None:
    with gpu.lease() as lease:
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        child = subprocess.Popen(command, pass_fds=lease.descriptors)
    assert len(gpu.holders()) == 1
    child.kill()
    child.wait()
    assert take() == ("0",)


def test_a_lease_that_is_gone_can_not_be_held(one: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with gpu.lease() as lease:
        monkeypatch.setenv(leases.HELD_VARIABLE, lease.environment[leases.HELD_VARIABLE])
    with pytest.raises(gpu.NoDevice, match="is gone, and another process may hold its GPU"):
        gpu.hold()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"device": "0"}', "null"])
def test_foreign_files_are_ignored(one: None, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "leases"
    folder.mkdir()
    (folder / "x.lease").write_text(content)
    (folder / "y.lease").symlink_to(tmp_path)
    os.mkfifo(folder / "z.lease")
    locker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_SH); "
            "print(flush=True); sys.stdin.read()",
            str(folder / "x.lease"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert locker.stdout
    locker.stdout.readline()
    assert take() == ("0",)
    locker.communicate()


SHARED = """
import os, sys
from spark_trainer.system import gpu
from spark_trainer.system.gpu import registry
os.umask(0o077)
if sys.argv[1] == "other":
    os.setuid(65534)
print(*sorted((holder.device, holder.what) for holder in gpu.holders()))
with gpu.lease(1, 0.5, sys.argv[1], waiting=sys.exit) as lease:
    print(oct(registry.folder().stat().st_mode), *lease.devices, flush=True)
    if sys.argv[1] == "dead":
        os.kill(os.getpid(), 9)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs two users")
def test_users_share_a_folder(one: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One user's living lease counts for another one; a dead one does not, though it stays."""
    monkeypatch.delenv(registry.FOLDER_VARIABLE)
    shared = Path(tempfile.mkdtemp())
    shared.chmod(registry.EVERYBODY)
    monkeypatch.setenv("TMPDIR", str(shared))

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SHARED, name]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    try:
        assert start("dead").communicate()[0] == "\n0o41777 0\n"
        living = start("living")
        assert living.stdout
        assert (living.stdout.readline(), living.stdout.readline()) == ("\n", "0o41777 0\n")
        assert start("other").communicate()[0] == "('0', 'living')\n0o41777 0\n"
        living.communicate()
        start("dead").communicate()
        other = start("other")
        assert other.communicate()[0] == "\n0o41777 0\n"
        assert other.returncode == 0
    finally:
        for path in (*shared.glob("*/*"), *shared.glob("*")):
            path.rmdir() if path.is_dir() else path.unlink()
        shared.rmdir()


DIES = """
import os, signal, sys
from spark_trainer.system import gpu
left = int(sys.argv[1])
def count(event, arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
with gpu.lease(2):
    pass
sys.addaudithook(count)
with gpu.lease(2, waiting=sys.exit):
    pass
left = -1
"""


def test_killed_at_every_step_of_taking_and_giving_back(two: None, tmp_path: Path) -> None:
    """The n-th call of the system that Python reports, for every n until none is left."""
    step, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        step += 1
        status = subprocess.run([sys.executable, "-c", DIES, str(step)], check=False).returncode
        assert take(2) == ("0", "1"), step
        assert list((tmp_path / "leases").iterdir()) == []
    assert status == 0
    assert step > 20


WORKERS, ROUNDS, KILLS = 8, 25, 30


def test_no_device_is_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight workers of 25 rounds, killed at any moment and replaced; the journal is the proof."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"0,{A},{ONE}")
    journal = tmp_path / "journal"
    journal.touch()
    chance = random.Random(0)
    seeds = iter(range(10_000))

    def worker(rounds: int) -> subprocess.Popen[bytes]:
        arguments = [str(journal), str(rounds), str(next(seeds))]
        command = [sys.executable, "-m", "tests.system.gpu.worker", *arguments]
        return subprocess.Popen(command, cwd=ROOT)

    workers = [worker(ROUNDS) for _ in range(WORKERS)]
    rounds = [ROUNDS] * WORKERS
    kills = 0
    while running := [n for n in range(WORKERS) if workers[n].poll() is None]:
        time.sleep(chance.uniform(0.005, 0.03))
        slot = chance.choice(running)
        if kills == KILLS or not _kill(workers[slot], journal, idle=chance.random() < 0.2):
            continue
        kills += 1
        pid = workers[slot].pid
        rounds[slot] -= journal.read_text().count(f"begin {pid} ")
        workers[slot] = worker(rounds[slot])
    assert [one.returncode for one in workers] == [0] * WORKERS
    lines = journal.read_text().splitlines()
    assert sum(line.startswith("begin") for line in lines) == WORKERS * ROUNDS
    shared, killed = _check(lines)
    assert min(shared, killed, kills) > 0
    assert take(3) == ("0", A, ONE)
    assert list((tmp_path / "leases").iterdir()) == []


def _begins_last(worker: subprocess.Popen[bytes], journal: Path) -> bool:
    lines = [
        line for line in journal.read_text().splitlines() if line.split()[1] == str(worker.pid)
    ]
    return bool(lines) and lines[-1].startswith("begin")


def _kill(worker: subprocess.Popen[bytes], journal: Path, idle: bool) -> bool:
    """Kill a worker that holds something, or if `idle` any.

    Its end is written while it stands still, so no later begin precedes it.
    """
    os.kill(worker.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    if worker.poll() is not None:
        return False
    if not idle and not _begins_last(worker, journal):
        os.kill(worker.pid, signal.SIGCONT)
        return False
    with open(journal, "a") as file:
        file.write(f"killed {worker.pid}\n")
    worker.kill()
    worker.wait()
    return True


def _check(lines: list[str]) -> tuple[int, int]:
    """No device is ever held to more than 1.

    Returns:
        How many begins met another holder of their device, and how many holders were killed.
    """
    held: dict[str, dict[str, float]] = {}  # process -> device -> fraction
    shared = killed = 0
    for line in lines:
        event, pid, *rest = line.split()
        if event == "begin":
            others = [device for devices in held.values() for device in devices]
            shared += any(device in others for device in rest[1:])
            held[pid] = dict.fromkeys(rest[1:], float(rest[0]))
            for device in rest[1:]:
                assert sum(devices.get(device, 0) for devices in held.values()) <= 1, line
        else:
            killed += event == "killed" and pid in held
            held.pop(pid, None)
    return shared, killed


def test_the_check_sees_what_is_wrong() -> None:
    assert _check(["begin 1 0.5 a b", "begin 2 0.5 a", "end 1", "begin 3 1.0 b", "killed 3"]) == (
        1,
        1,
    )
    with pytest.raises(AssertionError, match=r"begin 2 0\.75 a"):
        _check(["begin 1 0.5 a", "begin 2 0.75 a"])
    with pytest.raises(AssertionError, match=r"begin 2 1\.0 b"):
        _check(["begin 1 0.25 a b", "begin 2 1.0 b", "end 1"])


def test_the_module_is_light() -> None:
    code = "import sys, spark_trainer.system.gpu; print({'torch', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_environment_reaches_a_process(two: None, start: Start) -> None:
    first = start()
    exported = first.environment()
    assert json.loads(exported[leases.HELD_VARIABLE])
    assert exported["CUDA_VISIBLE_DEVICES"] == "0"
