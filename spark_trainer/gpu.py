"""Which GPUs there are, asked of the driver's own tool so that nothing heavy is imported."""

import os
import shutil
import subprocess
from dataclasses import dataclass

_FIELDS = "index,name,memory.total,memory.used,utilization.gpu,driver_version"


@dataclass(frozen=True)
class Device:
    """One GPU as `nvidia-smi` describes it; memory in MiB, utilisation in percent."""

    index: str
    name: str
    memory_mib: str
    used_mib: str
    utilisation: str
    driver: str

    def __str__(self) -> str:
        return (
            f"{self.index}: {self.name}, {self.used_mib} of {self.memory_mib} MiB used, "
            f"{self.utilisation} % busy, driver {self.driver}"
        )


def devices() -> list[Device]:
    """Every GPU of this machine; an empty list where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return []
    query = subprocess.run(
        ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=False,
    )
    if query.returncode != 0:
        return []
    return [Device(*row.split(", ")) for row in query.stdout.splitlines() if row]


def visible() -> int:
    """How many GPUs a process started here may use: `CUDA_VISIBLE_DEVICES` first, else all."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return len(devices())
    return len([name for name in allowed.split(",") if name.strip() not in ("", "-1")])
