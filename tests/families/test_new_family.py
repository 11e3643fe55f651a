"""The family that docs/new-family.md adds keeps the contract, as the page has it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Where the page says that its blocks of Python go, in its order.
FILES = (
    "spark_trainer/families/idefics3.py",
    "tests/families/tiny.py",
    "tests/families/tokenizers.py",
)


@pytest.mark.long
def test_the_family_of_the_page_keeps_the_contract(tmp_path: Path) -> None:
    for name in ("spark_trainer", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    page = (ROOT / "docs/new-family.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for name, code in zip(FILES, blocks, strict=True):
        assert f"`{name}`" in page
        with open(tmp_path / name, "a", encoding="utf-8") as file:
            file.write(code)
    golden = tmp_path / "tests/families/golden.py"
    text = golden.read_text(encoding="utf-8")
    golden.write_text(text.replace("VARIANTS = (\n", 'VARIANTS = (\n    "idefics3",\n'))
    contract = ["tests/families/test_contract.py", "-k", "idefics3", "-n", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", *contract],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "test_overfits_and_says_the_answers[idefics3]" in done.stdout
