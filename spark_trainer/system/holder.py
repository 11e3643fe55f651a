"""Names of processes that hold something on disk, by which others can tell whether they live."""

import functools
import hashlib
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

_TAG = re.compile(r"(?P<machine>[^.]*-[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)")


@dataclass(frozen=True)
class Process:
    """A process on a machine; `start` tells it from a later one that was given its number."""

    machine: str
    pid: int
    start: int

    def __str__(self) -> str:
        return f"{self.machine}-{self.pid}-{self.start}"

    @property
    def here(self) -> bool:
        """Tell whether this machine can see the process, or see that it is gone."""
        return self.machine == machine()

    @property
    def dead(self) -> bool:
        """Tell whether the process has provably ended, which only its own machine knows."""
        return self.here and started(self.pid) != self.start


def this() -> Process:
    """Return the name of this process."""
    return Process(machine(), os.getpid(), started(os.getpid()) or 0)


def parse(text: str) -> Process | None:
    """Find the name of a process in a text."""
    found = _TAG.search(text)
    return Process(found["machine"], int(found["pid"]), int(found["start"])) if found else None


@functools.cache
def machine() -> str:
    """Return the name of this machine since it was started, or of this container.

    Two machines may have one host name, and process ids are given again after a reboot and in each
    container, so the name also depends on the boot and on the namespace of process ids.
    """
    boot = _read("/proc/sys/kernel/random/boot_id")
    numbers = os.readlink("/proc/self/ns/pid") if os.path.exists("/proc/self/ns/pid") else ""
    host = re.sub("[^A-Za-z0-9_-]", "-", socket.gethostname())[:40]
    return f"{host}-{hashlib.sha256(f'{boot} {numbers}'.encode()).hexdigest()[:8]}"


def started(pid: int) -> int | None:
    """Return when a process started, in ticks since the machine did; None where it has ended.

    A zombie has ended. Without /proc every living process counts as started at 0.
    """
    if not os.path.exists("/proc/self/stat"):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return 0
        return 0
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if fields and fields[0] not in "ZX" else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
