"""Run every benchmark that has recorded figures, one after the other.

uv run --group bench python benchmarks/run.py [--smoke]
"""

import subprocess
import sys
import time

from measure import REPOSITORY, RESULTS


def main() -> int:
    """Run each with this command's own arguments; 1 where one failed or missed a target."""
    lines, failed = [], 0
    for name in sorted(path.stem for path in RESULTS.glob("*.json")):
        began = time.monotonic()
        command = [sys.executable, str(REPOSITORY / "benchmarks" / f"{name}.py"), *sys.argv[1:]]
        status = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
        lines.append(f"{name:<20}{time.monotonic() - began:>7.0f} s  status {status}")
        failed |= status
    print("\n" + "\n".join(lines))
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
