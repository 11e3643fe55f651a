"""What both benchmarks share: a command's cost, tables, and the verdict with its JSON file."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, CPU seconds with all children, and the largest process in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class Target:
    """A measured figure and the most that it may be."""

    name: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit


def ffmpeg(*arguments: str) -> None:
    """Run FFmpeg's own program, of the imageio-ffmpeg wheel.

    Raises:
        CalledProcessError: it failed.
    """
    import imageio_ffmpeg

    start = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-v", "error", "-y"]
    subprocess.run([*start, *arguments], capture_output=True, check=True)


def run(command: list[str], folder: Path) -> tuple[Cost, str]:
    """Run a command in `folder`; returns its cost and everything it printed.

    Compiled modules are kept in one place, as on a machine in use; without them every start of
    Snakemake compiles them again, which is most of a no-op.

    Raises:
        RuntimeError: the command failed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPARK_TRAINER_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "spark-bytecode")
    log = folder / "output.txt"
    started = time.perf_counter()
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    output = log.read_text(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {process.returncode}\n{output[-4000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), output


def snakemake(*arguments: str) -> list[str]:
    """A Snakemake command line for this interpreter."""
    return [sys.executable, "-m", "snakemake", *arguments]


def ours(config: Path, *arguments: str) -> list[str]:
    """A Snakemake command line for this project's workflow, its default profile included."""
    snakefile = ("--snakefile", str(REPOSITORY / "Snakefile"))
    return snakemake(*snakefile, *arguments, "--configfile", str(config))


def median(costs: list[Cost]) -> Cost:
    """The median of each figure."""
    return Cost(*(statistics.median(column) for column in zip(*map(_values, costs), strict=True)))


def _values(cost: Cost) -> tuple[float, ...]:
    return tuple(asdict(cost).values())


def row(label: str, cost: Cost) -> None:
    """Print one measured line of the table."""
    print(f"{label:<44}{cost.wall_s:>9.2f}{cost.cpu_s:>9.2f}{cost.peak_mb:>9.0f}", flush=True)


def heading(title: str) -> None:
    """Print the head of the table."""
    print(f"{title:<44}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}", flush=True)


def verdict(name: str, figures: dict[str, Any], targets: list[Target]) -> int:
    """Print the targets, write `results/<name>.json`; returns 1 if a target is missed."""
    print()
    for target in targets:
        word = "met" if target.met else "MISSED"
        print(f"{word:<8}{target.name:<58}{target.value:>8.3f}  at most {target.limit:g}")
    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "snakemake": version("snakemake"),
    }
    value = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine,
        "targets": [asdict(target) | {"met": target.met} for target in targets],
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(value | figures, indent=2, default=_rounded)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    return int(not all(target.met for target in targets))


def _rounded(value: Any) -> Any:
    return {key: round(number, 3) for key, number in asdict(value).items()}
