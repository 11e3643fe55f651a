"""The package as its wheel leaves it, and a user who types its command."""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CALL = "from spark_trainer.__main__ import main; main()"


def unpacked(folder: Path) -> Path:
    """Build the wheel, and return the folder of packages that it makes below `folder`."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "packages")
    return folder / "packages"


@dataclass(frozen=True)
class User:
    """A user's folder, and the packages that are installed there."""

    folder: Path
    packages: Path

    def type(self, *words: str, module: bool = False) -> subprocess.CompletedProcess[str]:
        """Type `spark-trainer …`, or `python -m spark_trainer …`, whatever comes of it."""
        done = self.begin(*words, module=module)
        out, err = done.communicate()
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def begin(self, *words: str, module: bool = False) -> subprocess.Popen[str]:
        """Type it, and don't wait for its end."""
        program = ("-m", "spark_trainer") if module else ("-P", "-c", CALL)
        kept = {key: value for key, value in os.environ.items() if "SPARK_TRAINER" not in key}
        return subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=self.folder,
            env=kept | {"PYTHONPATH": str(self.packages)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
