"""What all benchmarks share: options, a command's cost, tables, and the verdict with its file."""

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from spark_trainer.system import environment, gpu

BEGAN = time.monotonic()
PACKAGES = (
    *("accelerate", "av", "ctranslate2", "diffusers", "faster-whisper", "openai-whisper"),
    *("snakemake", "torch", "transformers", "trl"),
)
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


Options = argparse.Namespace
Measured = tuple[dict[str, Any], list[Target]]  # figures, and those of them that are judged


def options(doc: str, **sizes: tuple[Any, Any, str]) -> Options:
    """Parse a benchmark's command line.

    Args:
        doc: its docstring, of which the first line is shown.
        sizes: option -> its value in a full run, in a smoke run, and what it is.
    """
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument(
        "--smoke", action="store_true", help="tiny sizes: only see that it runs; record nothing"
    )
    for name, (full, _, told) in sizes.items():
        several = isinstance(full, list)
        kind = type(full[0] if several else full)
        flag, nargs = f"--{name.replace('_', '-')}", "+" if several else None
        parser.add_argument(flag, type=kind, nargs=nargs, help=f"{told} ({full})")
    found = parser.parse_args()
    for name, (full, tiny, _) in sizes.items():
        if getattr(found, name) is None:
            setattr(found, name, tiny if found.smoke else full)
    return found


def write(output: Any) -> None:
    """Run a graph of ffmpeg-python by FFmpeg's own program, of the imageio-ffmpeg wheel.

    Raises:
        CalledProcessError: it failed.
    """
    import imageio_ffmpeg

    quiet = output.global_args("-hide_banner", "-nostdin", "-v", "error", "-y")
    command = quiet.compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    subprocess.run(command, capture_output=True, check=True)


def run(command: list[str], folder: Path) -> tuple[Cost, str]:
    """Run a command in `folder`; returns its cost and everything it printed.

    Compiled modules are kept, as on a machine in use; without them every start of Snakemake
    compiles them again, which is most of a no-op.

    Raises:
        RuntimeError: the command failed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPARK_TRAINER_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
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
    """Return a Snakemake command line for this interpreter."""
    return [sys.executable, "-m", "snakemake", *arguments]


def ours(config: Path, *arguments: str) -> list[str]:
    """Return a Snakemake command line for this workflow, its default profile included."""
    snakefile = ("--snakefile", str(REPOSITORY / "Snakefile"))
    return snakemake(*snakefile, *arguments, "--configfile", str(config))


@contextlib.contextmanager
def busy() -> Iterator[list[int]]:
    """Percent that the first GPU is busy, five times a second; filled at the end, empty without."""
    samples: list[int] = []
    if not gpu.devices():
        yield samples
        return
    query = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200")
    command = ["nvidia-smi", *query, "-i", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield samples
        finally:
            process.terminate()
            lines = process.communicate()[0].splitlines()
    samples += [int(line) for line in lines if line.isdigit()]


def median(costs: list[Cost]) -> Cost:
    """Return the median of each figure."""
    return Cost(*(statistics.median(column) for column in zip(*map(_values, costs), strict=True)))


def _values(cost: Cost) -> tuple[float, ...]:
    return tuple(asdict(cost).values())


def row(label: str, cost: Cost) -> None:
    """Print one measured line of the table."""
    print(f"{label:<44}{cost.wall_s:>9.2f}{cost.cpu_s:>9.2f}{cost.peak_mb:>9.0f}", flush=True)


def heading(title: str) -> None:
    """Print the head of the table."""
    print(f"{title:<44}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}", flush=True)


def main(
    doc: str,
    measured: Callable[[Path, Options], Measured],
    **sizes: tuple[Any, Any, str],
) -> NoReturn:
    """Measure in a temporary folder, judge, and end this process by the verdict.

    Args:
        doc: the benchmark's docstring.
        measured: what it measures; returns its figures and its targets.
        sizes: as of `options`.
    """
    chosen = options(doc, **sizes)
    with tempfile.TemporaryDirectory(prefix=f"spark-{Path(sys.argv[0]).stem}-") as folder:
        figures, targets = measured(Path(folder), chosen)
    sys.exit(verdict(chosen, figures, targets))


def verdict(chosen: Options, figures: dict[str, Any], targets: list[Target]) -> int:
    """Print the targets, write `results/<name>.json`; returns 1 if a target is missed.

    A smoke run judges and writes nothing, as its figures mean nothing.
    """
    minutes = (time.monotonic() - BEGAN) / 60
    if chosen.smoke:
        print(f"\nsmoke run: {len(targets)} targets, not judged; {60 * minutes:.0f} s")
        return 0
    print()
    for target in targets:
        word = "met" if target.met else "MISSED"
        print(f"{word:<8}{target.name:<58}{target.value:>8.3f}  at most {target.limit:g}")
    print(f"{minutes:.1f} min")
    value = origin() | {
        "minutes": round(minutes, 1),
        "options": {key: value for key, value in vars(chosen).items() if key != "smoke"},
        "targets": [asdict(target) | {"met": target.met} for target in targets],
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(value | figures, indent=2, default=_rounded)
    (RESULTS / f"{Path(sys.argv[0]).stem}.json").write_text(text + "\n")
    return int(not all(target.met for target in targets))


def origin() -> dict[str, Any]:
    """Tell when, of which code, on which machine and with which packages this is measured."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": {
            "cpu": model[1] if model else platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "gpus": [device.name for device in gpu.devices()],
        },
        "packages": {"python": platform.python_version()} | environment.versions(PACKAGES),
    }


def _commit() -> str:
    """Name the commit, and whether anything but these results was changed since.

    A copy of the files alone, without git's, doesn't know.
    """
    if not (REPOSITORY / ".git").exists():
        return "unknown"

    def git(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return git("rev-parse", "HEAD") + ("-dirty" if changed else "")


def _rounded(value: Any) -> Any:
    return {key: round(number, 3) for key, number in asdict(value).items()}
