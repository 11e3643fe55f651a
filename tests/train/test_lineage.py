"""What a run is made of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]


@pytest.mark.skipif(not (REPO / ".git").exists(), reason="needs a checkout")
def test_what_was_edited_and_added_to_the_code_is_told(tmp_path: Path) -> None:
    """A setting that a user chose is none of the code."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--shared", REPO, clone], check=True)

    def told() -> str:
        code = "from spark_trainer.train import lineage; print(lineage.code_diff(), end='')"
        environment = os.environ | {"PYTHONPATH": str(clone)}
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout

    with open(clone / "config/config.yaml", "a") as file:
        file.write("# mine\n")
    assert told() == ""
    with open(clone / "spark_trainer/errors.py", "a") as file:
        file.write("# edited\n")
    with open(clone / "rules/train.smk", "a") as file:
        file.write("# a rule\n")
    (clone / "spark_trainer/captioners/backends/my one.py").write_text("# added\n")
    lines = told().splitlines()
    assert [line for line in lines if line[0] == "+" and line[1] != "+"] == [
        *("+# a rule", "+# edited", "+# added"),
    ]
    assert any(line.rstrip().endswith("/backends/my one.py") for line in lines if line[:3] == "+++")
