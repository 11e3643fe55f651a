"""Running functions in processes of their own, within limits that the kernel enforces.

A decoder may crash on a hostile file, take all memory or never end. That costs only its process,
whose exit status tells whether the file or the machine was the cause.
"""

import contextlib
import importlib
import json
import math
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from spark_trainer.errors import MachineError, Refused, SparkTrainerError
from spark_trainer.system import environment

CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
TRIES = 3  # of a call whose process is killed or crashes
STALL_S = 600.0  # without an answer and without CPU time, after which a process hangs
POLL_S = 5.0


@dataclass(frozen=True)
class Limits:
    """The limits of one call: seconds of CPU time, and memory.

    `cpu_s` is allowed again for each second of video that was decoded (`spend`).
    """

    cpu_s: float
    memory_gb: float


class Workers:
    """A number of processes that run functions, each one call at a time.

    Args:
        count: processes; each is started when it is first needed, and again after it died.
        limits: of each call.
        section: section of the configuration that holds the limits, for messages.
    """

    def __init__(self, count: int, limits: Limits, section: str) -> None:
        self._limits, self._section = limits, section
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all = [_Worker() for _ in range(count)]
        for worker in self._all:
            self._idle.put(worker)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._all:
            worker.stop()

    def call(self, function: str, *arguments: Any) -> Any:
        """Run a function in one of the processes and wait for what it returns.

        Args:
            function: `module:name`.
            arguments: values that JSON can hold, like the result.

        Raises:
            Refused: the input is bad, its decoder crashed, or it takes more than the limits.
            OSError: the function met an error of a file or the disk.
            MachineError: the process was killed, hangs, lacks a library, or may take less memory
                than the limits allow.
        """
        worker = self._idle.get()
        try:
            for left in reversed(range(TRIES)):
                try:
                    return self._result(worker.call(function, arguments, self._limits))
                except _Died as death:
                    worker.stop()
                    self._blame(death, left)
        finally:
            self._idle.put(worker)

    def _blame(self, death: "_Died", tries_left: int) -> None:
        """Raise the error that fits the end of a process, unless another try is worth it."""
        if death.by == signal.SIGXCPU:
            raise Refused(
                f"decoding takes more CPU time than {self._section}.max_cpu_s = "
                f"{self._limits.cpu_s:g} s for each second of video"
            )
        if tries_left:
            return
        if death.by in CRASHES:
            raise Refused(f"its decoder crashed ({death.by.name})")
        raise MachineError(str(death))

    def _result(self, answer: dict[str, Any]) -> Any:
        if "refused" in answer:
            raise Refused(answer["refused"])
        if "machine" in answer:
            raise MachineError(answer["machine"])
        if "memory" in answer:
            if (allowed := answer["memory"]) < self._limits.memory_gb:
                raise MachineError(
                    f"out of memory: this machine allows a process {allowed:.3g} GB (`ulimit -v`), "
                    f"less than {self._section}.max_memory_gb = {self._limits.memory_gb:g}"
                )
            raise Refused(
                f"decoding takes more memory than {self._section}.max_memory_gb = "
                f"{self._limits.memory_gb:g}"
            )
        if "os" in answer:
            raise OSError(*answer["os"])
        if "trace" in answer:
            raise RuntimeError(answer["trace"])
        return answer["result"]


class _Died(SparkTrainerError):
    """A process ended, or was ended, without an answer."""

    def __init__(self, status: int | None) -> None:
        self.by = signal.Signals(-status) if status is not None and status < 0 else None
        how = f"hung for {STALL_S:g} s" if status is None else f"ended with status {status}"
        super().__init__(f"a worker process {f'was killed ({self.by.name})' if self.by else how}")


class _Worker:
    """One process; each request is a line on its standard input, each answer a line back."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: str, arguments: tuple[Any, ...], limits: Limits) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            _Died: the process ended without one.
        """
        if self._process is None:
            command = [sys.executable, "-c", f"from {__name__} import main; main({os.getpid()})"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self._process
        assert process.stdin is not None
        asked = {"function": function, "arguments": arguments, "limits": asdict(limits)}
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise _Died(process.wait()) from None
        line = self._answer(process)
        if not line.endswith(b"\n"):
            raise _Died(process.wait())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _answer(self, process: "subprocess.Popen[bytes]") -> bytes:
        """Read the answer's line; it is cut where the process ended meanwhile."""
        assert process.stdout is not None
        pipe, line = process.stdout.fileno(), b""
        worked, since = _cpu_seconds(process.pid), time.monotonic()
        while not line.endswith(b"\n"):
            if select.select([pipe], [], [], POLL_S)[0]:
                read = os.read(pipe, 1 << 16)
                if not read:
                    return line
                line += read
                continue
            now = _cpu_seconds(process.pid)
            if now != worked:
                worked, since = now, time.monotonic()
            elif time.monotonic() - since > STALL_S:
                process.kill()
                process.wait()
                raise _Died(None)
        return line

    def stop(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()
            self._process = None


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return -1.0
    return float(times.user + times.system)


def spend(video_s: float) -> None:
    """Allow this process the CPU time for so many more seconds of decoded video."""
    global _earned_s
    _earned_s += min(video_s, 1.0)
    if _earned_s >= _granted_s + 1.0:
        _grant(_earned_s)


_allowance = Limits(0.0, 0.0)
_earned_s = _granted_s = 0.0  # of the video of this call


def _grant(video_s: float) -> None:
    """Set the kernel's limit to the CPU time used so far and the allowance, in whole seconds."""
    global _granted_s
    _granted_s = video_s
    if _allowance.cpu_s:
        used = time.process_time()
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + _allowance.cpu_s) + 1, most))


@contextlib.contextmanager
def _limited(limits: Limits) -> Iterator[None]:
    """Apply limits to this process within the block."""
    global _allowance, _earned_s
    _allowance, _earned_s = limits, 0.0
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = int(limits.memory_gb * 2**30)
    resource.setrlimit(
        resource.RLIMIT_DATA,
        (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most),
    )
    _grant(0.0)
    try:
        yield
    finally:
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
        _allowance = Limits(0.0, 0.0)


def _allowed_gb() -> float:
    """Return the gigabytes that this process may take by the system's own limits, code included."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit / 2**30 for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    return min(limits, default=math.inf)


def _answered(asked: dict[str, Any]) -> dict[str, Any]:
    """Run one request and return its answer."""
    module, _, name = asked["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    try:
        with _limited(Limits(**asked["limits"])):
            return {"result": function(*asked["arguments"])}
    except MemoryError:
        return {"memory": _allowed_gb()}
    except ImportError as error:
        return {"machine": f"can't load what decodes videos: {error}"}
    except OSError as error:
        if error.errno is None:
            return {"refused": str(error)}
        return {"os": [error.errno, error.strerror, error.filename and str(error.filename)]}
    except Refused as error:
        return {"refused": str(error)}
    except Exception:
        import traceback

        return {"trace": traceback.format_exc()}


def main(parent: int) -> None:
    """Answer the parent's requests; output that libraries print goes to standard error."""
    environment.end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        answers.write(json.dumps(_answered(json.loads(line))) + "\n")
        answers.flush()
