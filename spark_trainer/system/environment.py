"""What jobs inherit, how their own processes end, and which packages they run on."""

import contextlib
import ctypes
import gc
import getpass
import importlib.util
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

SIGNAL_AT_PARENTS_DEATH = 1  # prctl's PR_SET_PDEATHSIG
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of malloc.h, mallopt(3)
SLURM_CPUS = "SLURM_CPUS_PER_TASK"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of CPU time, in so many of the clock
NO_BYTECODE, BYTECODE = "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"
PARENT_VARIABLE = "SPARK_TRAINER_PARENT"  # id of the process that started this one


def prefer_this_interpreter() -> None:
    """Put this Python first on the PATH: jobs run `python`, also where nothing is activated."""
    folder = str(Path(sys.executable).parent)
    folders = os.environ.get("PATH", "").split(os.pathsep)
    if folders[0] != folder:
        os.environ["PATH"] = os.pathsep.join([folder, *folders])


def tune_jobs() -> None:
    """Let jobs take memory in pages of 2 MB, and their threads sleep while they wait for others.

    glibc does the first from 2.35 on. On a CPU much of a model's time goes into page faults:
    Whisper's encoder under CTranslate2 is 1.4 times faster on two cores. By default a thread of
    OpenMP spins while it waits, for others that wait for its core: a network that shares two cores
    with other processes is 3 to 8 times faster where it sleeps.
    """
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_bytecode() -> None:
    """Let processes keep what they compile in a cache of ours, where they are told to keep nothing.

    Containers often set PYTHONDONTWRITEBYTECODE, and uv installs packages uncompiled: then each
    process compiles torch and transformers anew. Beside the packages nothing is written.
    """
    if not os.environ.get(NO_BYTECODE) or _compiled("torch"):
        return
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        cache = Path(os.environ.get(BYTECODE) or home / "spark-trainer/bytecode")
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # there is no home, or none of ours
        return
    if os.access(cache, os.W_OK):
        del os.environ[NO_BYTECODE]
        os.environ[BYTECODE] = sys.pycache_prefix = str(cache)
        sys.dont_write_bytecode = False


def _compiled(package: str) -> bool:
    """Tell whether a package is installed compiled, or not at all."""
    spec = importlib.util.find_spec(package)
    return spec is None or spec.cached is None or Path(spec.cached).exists()


def keep_freed_memory() -> None:
    """Let glibc use freed memory again, instead of giving it back to Linux.

    A training on a CPU frees its activations at each update and takes as much at the next, which
    Linux would fill with zeros, page by page: 0.24 of 1.26 CPU-seconds of an update of 5 windows
    of tiny.en, its encoder frozen.
    """
    if sys.platform != "linux":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    mallopt(M_ARENA_MAX, 1)  # the arenas of other threads would give theirs back


def end_with_parent(_: int) -> None:
    """End this worker process as soon as the job's own process is gone, by a SIGKILL for example.

    PyTorch's workers look only every five seconds. Until then they hold the files of the job's GPU
    lease, so the same job started again would wait for them.
    """
    parent = multiprocessing.parent_process()
    if parent and parent.pid and multiprocessing.get_start_method() == "fork":
        end_with(parent.pid)


def work_on(number: int) -> None:
    """Do as `end_with_parent`, for a worker of a training process, and leave stopping to that one.

    Ctrl-C and Slurm signal every process of a run, and the last update still needs its samples, so
    the training process alone ends its workers. It hears of a SIGTERM that one of them gets.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent and sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_stop, args=(parent.pid,), daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent(number)


def _stop(parent: int) -> None:
    """Pass on each SIGTERM to the parent but for its own, which torch sends to slow workers."""
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            os.kill(parent, signal.SIGTERM)


def cpus() -> int:
    """Return how many CPUs this process may use, if its run's others here use as many each.

    The fewest of those of its affinity, of its task in Slurm, and of the control group's quota,
    by which containers are limited.
    """
    found = [len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1]
    found += [int(os.environ[SLURM_CPUS])] if SLURM_CPUS in os.environ else []
    with contextlib.suppress(OSError, ValueError):  # without a quota its text is `max`
        quota, period = map(int, CPU_QUOTA.read_text().split())
        found.append(quota // period)
    return max(1, min(found) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def user() -> str:
    """Return the name of the user; their number where the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def collect_seldom() -> None:
    """Look for unreachable cycles once in 100,000 new objects, not in 700.

    The graph's objects live as long as the process, and each look walks all of them: a build of
    20,000 videos with nothing to do takes 1.71 s of 2.02 s.
    """
    gc.set_threshold(100_000)


def quiet_libraries() -> None:
    """Keep packages that others load from warning of what no run of ours asks them.

    DeepSpeed looks for a GPU, of which the launcher has told already; bitsandbytes for a faster
    kernel for four bits on a CPU; transformers and diffusers show a bar for all that they load or
    write, in files and pipes, too. Whoever loads weights calls this first.
    """
    import transformers.utils.logging
    from huggingface_hub.utils.tqdm import enable_progress_bars

    transformers.utils.logging.disable_progress_bar()
    if "diffusers" in sys.modules:
        import diffusers.utils.logging

        diffusers.utils.logging.disable_progress_bar()
    enable_progress_bars()  # of downloads, which may take long
    logging.getLogger("DeepSpeed").addFilter(lambda one: one.module != "real_accelerator")
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def end_with_launcher() -> None:
    """End this process as soon as the one that started it is gone; PARENT_VARIABLE names it."""
    if launcher := os.environ.get(PARENT_VARIABLE):
        end_with(int(launcher))


def end_with(parent: int) -> None:
    """End this process as soon as its parent is gone, whose id is given."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(SIGNAL_AT_PARENTS_DEATH, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


def pass_signals_on() -> None:
    """Pass SIGTERM and Ctrl-C on to trainings below this process; Snakemake doesn't.

    They save a checkpoint, and the same command goes on from there; other jobs are left to
    Snakemake. In a terminal they get Ctrl-C twice, which counts as once.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_pass_on, signal.getsignal(number)))


def _pass_on(before: Any, number: int, frame: Any) -> None:
    import psutil  # type: ignore[import-untyped]

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[1:4] == ["-m", "spark_trainer", "fit"]:
                process.send_signal(number)
    if callable(before):
        before(number, frame)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of packages, for a record of what was made with them.

    One that is not installed is left out.
    """
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
