"""Run every benchmark that has recorded figures, one after the other; smoke runs, two at once.

uv run --group bench python benchmarks/run.py [--smoke]
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil  # type: ignore[import-untyped]
from measure import REPOSITORY, RESULTS

SMOKE_S = 300  # that a smoke run may take


def stopped(process: "subprocess.Popen[str]") -> str:
    """End a process and all below it; returns what it had said."""
    below = psutil.Process(process.pid).children(recursive=True)
    for one in (process, *below):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
            one.kill()
    return process.communicate()[0]


def smoke(command: Sequence[str], limit_s: float = SMOKE_S) -> tuple[str, int]:
    """Run a command that may take so many seconds; returns what it said, and its status."""
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=REPOSITORY, text=True, **output) as process:
        try:
            said = process.communicate(timeout=limit_s)[0]
        except subprocess.TimeoutExpired:
            said = f"{stopped(process)}\nstopped: it took more than {limit_s:g} s\n"
    return said, process.returncode


def run(name: str) -> tuple[str, int, float]:
    """Run a benchmark with this command's own arguments; returns what it said, status, seconds."""
    began = time.monotonic()
    command = [sys.executable, str(REPOSITORY / "benchmarks" / f"{name}.py"), *sys.argv[1:]]
    if "--smoke" in sys.argv:
        said, status = smoke(command)
    else:
        said, status = "", subprocess.run(command, cwd=REPOSITORY, check=False).returncode
    return said, status, time.monotonic() - began


def main() -> int:
    """Run all; 1 where one failed or missed a target."""
    lines, failed = [], False
    names = sorted(path.stem for path in RESULTS.glob("*.json"))
    with ThreadPoolExecutor(2 if "--smoke" in sys.argv else 1) as pool:
        for name, (said, status, seconds) in zip(names, pool.map(run, names), strict=True):
            print(said, end="", flush=True)
            lines.append(f"{name:<20}{seconds:>7.0f} s  status {status}")
            failed |= status != 0
    print("\n" + "\n".join(lines))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
