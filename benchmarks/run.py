"""Run every benchmark that has recorded figures, one after the other; smoke runs, two at once.

uv run --group bench python benchmarks/run.py [--smoke]
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from measure import REPOSITORY, RESULTS


def run(name: str) -> tuple[str, int, float]:
    """Run a benchmark with this command's own arguments; returns what it said, status, seconds."""
    began = time.monotonic()
    command = [sys.executable, str(REPOSITORY / "benchmarks" / f"{name}.py"), *sys.argv[1:]]
    smoke = "--smoke" in sys.argv
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if smoke else {}
    done = subprocess.run(command, cwd=REPOSITORY, check=False, text=True, **output)
    return done.stdout or "", done.returncode, time.monotonic() - began


def main() -> int:
    """Run all; 1 where one failed or missed a target."""
    lines, failed = [], 0
    names = sorted(path.stem for path in RESULTS.glob("*.json"))
    with ThreadPoolExecutor(2 if "--smoke" in sys.argv else 1) as pool:
        for name, (said, status, seconds) in zip(names, pool.map(run, names), strict=True):
            print(said, end="", flush=True)
            lines.append(f"{name:<20}{seconds:>7.0f} s  status {status}")
            failed |= status
    print("\n" + "\n".join(lines))
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
