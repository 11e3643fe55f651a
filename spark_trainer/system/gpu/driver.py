"""The GPUs of this machine, as the driver's own tool `nvidia-smi` lists them."""

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"

_FIELDS = "index,name,memory.total,memory.used,utilization.gpu,driver_version,uuid"
_GPU = re.compile(r"GPU (\d+): (.+) \(UUID: ([^)]+)\)")
_INSTANCE = re.compile(r"\s+(MIG \S+)\s.*\(UUID: ([^)]+)\)")
_NAME = re.compile(r"\d+|(GPU|MIG)-.+")


@dataclass(frozen=True)
class Device:
    """One GPU as `nvidia-smi` describes it; memory in MiB, utilisation in percent."""

    index: str
    name: str
    memory_mib: str
    used_mib: str
    utilisation: str
    driver: str
    uuid: str

    def __str__(self) -> str:
        return (
            f"{self.index}: {self.name}, {self.used_mib} of {self.memory_mib} MiB used, "
            f"{self.utilisation} % busy, driver {self.driver}"
        )


@dataclass(frozen=True)
class Listed:
    """One GPU as `nvidia-smi -L` lists it, and its MIG instances as (UUID, profile)."""

    index: str
    name: str
    uuid: str
    instances: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> list[str]:
        """Return the names of this GPU for CUDA: its index, or its instances where MIG is on."""
        return [uuid for uuid, _ in self.instances] or [self.index]


def devices() -> list[Device]:
    """List the GPUs of this machine that answer; an empty list where there is no driver."""
    rows = _ask(f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits")
    told = (row.split(", ") for row in rows)
    return [Device(*values) for values in told if len(values) == len(fields(Device))]


def memory_bytes(names: Sequence[str]) -> int | None:
    """Return the memory of the smallest of these devices; None where the driver doesn't tell it.

    It tells none of MIG instances.

    Args:
        names: their names as in `CUDA_VISIBLE_DEVICES`.
    """
    listed, found = listing(), {device.uuid: device.memory_mib for device in devices()}
    told = [found.get(canonical(name, listed), "") for name in names]
    known = [int(mib) * 2**20 for mib in told if mib.isdecimal()]
    return min(known) if known and len(known) == len(names) else None


def listing() -> list[Listed]:
    """List the GPUs of this machine with their MIG instances; empty where there is no driver."""
    found: list[Listed] = []
    for line in _ask("-L"):
        if gpu := _GPU.match(line):
            found.append(Listed(gpu[1], gpu[2], gpu[3]))
        elif found and (instance := _INSTANCE.match(line)):
            instances = (*found[-1].instances, (instance[2], instance[1]))
            found[-1] = replace(found[-1], instances=instances)
    return found


def visible(listed: Sequence[Listed] | None = None) -> list[str]:
    """Return the devices that a process started here may use, by the names that CUDA takes.

    These are the entries of `CUDA_VISIBLE_DEVICES`; as in CUDA, only those before the first one
    that can't be a device, so `-1`, an empty text and Slurm's `NoDevFiles` hide all. Without the
    variable, every GPU of this machine, or its MIG instances.

    Args:
        listed: the result of `listing()`, to ask only once.
    """
    allowed = os.environ.get(VISIBLE_VARIABLE)
    if allowed is None:
        found = listing() if listed is None else listed
        return [name for gpu in found for name in gpu.names]
    names = itertools.takewhile(_NAME.fullmatch, map(str.strip, allowed.split(",")))
    return list(dict.fromkeys(names))


def canonical(name: str, listed: Sequence[Listed]) -> str:
    """Return a device's unique name: its full UUID where the driver knows it, else the given name.

    An index, a UUID and the beginning of a UUID may name the same device. The name of a GPU with
    MIG on means its first instance, as in CUDA.
    """
    gpus = [
        gpu
        for gpu in listed
        if (name.startswith("GPU-") and gpu.uuid.startswith(name))
        or (name.isdecimal() and int(gpu.index) == int(name))
    ]
    uuids = [uuid for gpu in listed for uuid, _ in gpu.instances]
    instances = [uuid for uuid in uuids if name.startswith("MIG-") and uuid.startswith(name)]
    if len(gpus) == 1:
        return gpus[0].instances[0][0] if gpus[0].instances else gpus[0].uuid
    return instances[0] if len(instances) == 1 else name


def _ask(*question: str) -> list[str]:
    """Return the lines that `nvidia-smi` answers; none where it is missing or fails."""
    if not shutil.which("nvidia-smi"):
        return []
    answer = subprocess.run(["nvidia-smi", *question], capture_output=True, text=True, check=False)
    return answer.stdout.splitlines() if answer.returncode == 0 else []
