"""What an installation lacks is named with the command that installs it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spark_trainer.system import extras

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_table_is_the_projects() -> None:
    said = PROJECT["project"]["optional-dependencies"]
    everything = said.pop("all")
    names = {
        name: tuple(re.split(r"[=<>;]", package)[0] for package in packages)
        for name, packages in said.items()
    }
    assert names == extras.EXTRAS
    assert everything == [f"spark-trainer[{','.join(sorted(said))}]"]


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("mediapipe", "pip install 'spark-trainer[pose]'"),
        ("bitsandbytes>=0.45", "pip install 'spark-trainer[qlora]'"),
        ("vllm>=0.32", "pip install 'vllm>=0.32'"),
    ],
)
def test_how_a_package_is_installed(package: str, command: str) -> None:
    assert extras.installs(package) == command


def test_a_profile_without_its_plugin_ends_with_a_line() -> None:
    code = "from spark_trainer.system import extras; extras.need('none-such', '--profile slurm')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "spark_trainer: --profile slurm needs the package none-such: pip install 'none-such'\n"
    )
