"""Processes of our own: what ends one says whose trouble it was, and costs nothing else."""

import errno
import importlib
import os
import resource
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from spark_trainer.errors import MachineError, Refused
from spark_trainer.system.workers import Limits, Workers

HERE = "tests.system.test_workers"
ROOMY = Limits(cpu_s=30.0, memory_gb=2.0)


# What the processes run.
def own_pid() -> int:
    return os.getpid()


def die(by: int, marks: str, times: int) -> str:
    """End by a signal, the first so many times."""
    count = len(os.listdir(marks))
    if count < times:
        Path(marks, str(count)).touch()
        os.kill(os.getpid(), by)
        time.sleep(60)
    return "done"


def burn(video_s: float) -> str:
    """Work for ever; each round is worth some seconds of video."""
    from spark_trainer.system import workers

    while True:
        sum(range(10**5))
        workers.spend(video_s)


def work(seconds: float) -> str:
    """Work for so long, a second of video for each half second."""
    from spark_trainer.system import workers

    began = last = time.process_time()
    while time.process_time() - began < seconds:
        if time.process_time() - last > 0.5:
            last = time.process_time()
            workers.spend(1.0)
    return "done"


def take(gigabytes: float) -> int:
    return len(bytearray(int(gigabytes * 2**30)))


def refuse() -> None:
    raise Refused("no good")


def full_disk() -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def allow(memory_gb: float) -> None:
    """Hold this process to less memory, as a cluster does."""
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_gb * 2**30), most))


def load() -> None:
    importlib.import_module("no_such_decoder")


def bug() -> None:
    {}["key"]


def echo(text: str) -> str:
    print("what a library prints")
    return text


def test_one_process_answers_call_after_call() -> None:
    with Workers(1, ROOMY, "frames") as workers:
        assert workers.call(f"{HERE}:own_pid") == workers.call(f"{HERE}:own_pid") != os.getpid()
        odd = "ž 動画 \udcff \n\0"
        assert workers.call(f"{HERE}:echo", odd) == odd


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGBUS])
def test_a_killed_process_is_replaced_and_its_work_done_again(by: int, tmp_path: Path) -> None:
    with Workers(1, ROOMY, "frames") as workers:
        assert workers.call(f"{HERE}:die", by, str(tmp_path), 2) == "done"


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGBUS, signal.SIGHUP])
def test_processes_killed_again_and_again_are_the_machine_s_trouble(
    by: int, tmp_path: Path
) -> None:
    with Workers(1, ROOMY, "frames") as workers:
        with pytest.raises(MachineError, match=signal.Signals(by).name):
            workers.call(f"{HERE}:die", by, str(tmp_path), 99)
        assert workers.call(f"{HERE}:echo", "on") == "on"


def test_a_decoder_that_always_crashes_is_the_input_s_trouble(tmp_path: Path) -> None:
    with Workers(1, ROOMY, "frames") as workers, pytest.raises(Refused, match="SIGSEGV"):
        workers.call(f"{HERE}:die", signal.SIGSEGV, str(tmp_path), 99)


def test_endless_work_is_stopped_by_the_limit_and_named() -> None:
    with Workers(1, Limits(1.0, 2.0), "frames") as workers:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with pytest.raises(Refused, match=r"frames\.max_cpu_s = 1 s"):
            workers.call(f"{HERE}:burn", 0.0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert after.ru_utime - before.ru_utime < 10  # of the process that ended
        assert workers.call(f"{HERE}:work", 4.0) == "done"  # each second of video is worth its own


def test_too_much_memory_is_refused_and_named() -> None:
    with Workers(1, Limits(30.0, 1.0), "frames") as workers:
        with pytest.raises(Refused, match=r"frames\.max_memory_gb = 1"):
            workers.call(f"{HERE}:take", 2.0)
        assert workers.call(f"{HERE}:take", 0.1) > 0


def test_too_little_memory_on_the_machine_is_no_fact_about_the_video() -> None:
    with Workers(1, Limits(30.0, 8.0), "frames") as workers:
        workers.call(f"{HERE}:allow", 1.0)
        with pytest.raises(MachineError, match=r"allows a process 1 GB"):
            workers.call(f"{HERE}:take", 2.0)


def test_a_library_that_can_t_be_loaded_is_no_fact_about_the_video() -> None:
    with (
        Workers(1, ROOMY, "frames") as workers,
        pytest.raises(MachineError, match="No module named"),
    ):
        workers.call(f"{HERE}:load")


def test_errors_keep_their_kind() -> None:
    with Workers(1, ROOMY, "frames") as workers:
        with pytest.raises(Refused, match=r"^no good$"):
            workers.call(f"{HERE}:refuse")
        with pytest.raises(OSError, match="No space left") as error:
            workers.call(f"{HERE}:full_disk")
        assert error.value.errno == errno.ENOSPC
        with pytest.raises(RuntimeError, match="KeyError"):
            workers.call(f"{HERE}:bug")


def test_a_process_killed_while_idle_is_not_missed() -> None:
    with Workers(1, ROOMY, "frames") as workers:
        os.kill(workers.call(f"{HERE}:own_pid"), signal.SIGKILL)
        time.sleep(0.2)
        assert workers.call(f"{HERE}:echo", "on") == "on"


def test_nobody_outlives_the_one_who_started_them() -> None:
    before = {child.pid for child in psutil.Process().children()}
    with Workers(2, ROOMY, "frames") as workers:
        threads = [
            threading.Thread(target=workers.call, args=(f"{HERE}:work", 0.2)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {child.pid for child in psutil.Process().children()} - before
    assert {child.pid for child in psutil.Process().children()} <= before
