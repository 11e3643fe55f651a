"""The family that docs/new-family.md adds keeps the contract, as the page has it."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.documented.pages import commands
from tests.documented.worked import python, touched
from tests.workflow.conftest import REPO, source_tree

PAGE = (REPO / "docs/new-family.md").read_text(encoding="utf-8")
NEW = ("spark_trainer/families/idefics3.py", "config/examples/idefics3.yaml")
LOSSES = "tests/families/golden/idefics3.txt"
# What the page adds to.
TESTS = ("tests/families/tiny.py", "tests/families/tokenizers.py", "tests/families/golden.py")
# Where the page says that its blocks of Python and YAML go, in its order.
FILES = (NEW[0], *TESTS[:2], NEW[1])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the family of the page."""
    tree = source_tree(tmp_path_factory.mktemp("new_family") / "tree")
    for name in ("config", "scripts", "tests"):
        shutil.copytree(REPO / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "pyproject.toml", tree)
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE, re.DOTALL)
    for name, code in zip(FILES, blocks, strict=True):
        assert f"`{name}`" in PAGE
        with open(tree / name, "a", encoding="utf-8") as file:
            file.write(code)
    golden = tree / TESTS[2]
    text = golden.read_text(encoding="utf-8")
    golden.write_text(text.replace("VARIANTS = (\n", 'VARIANTS = (\n    "idefics3",\n'))
    return tree


def words(module: str) -> list[str]:
    """Return the words of the page's command that runs a module."""
    [line] = [line for line in commands() if module in line and "idefics3" in line]
    return shlex.split(line.removeprefix("uv run ").removeprefix("python -m "))


@pytest.mark.long
def test_the_family_of_the_page_keeps_the_contract(tree: Path) -> None:
    status, said = python(tree, *words("test_contract.py"), "-rA", "-n", "0")
    assert status == 0, said
    assert "test_overfits_and_says_the_answers[idefics3]" in said


@pytest.mark.long
def test_the_page_says_how_many_files_are_touched(tree: Path) -> None:
    """Its losses are kept and its example is read, and the page names three other pages."""
    status, said = python(tree, *words("tests.families.golden"))
    assert status == 0, said
    losses = [float(line) for line in (tree / LOSSES).read_text().splitlines()]
    assert losses[-1] < losses[0]
    schema = ("tests/config/test_schema.py", "-k", "idefics3")
    status, said = python(tree, "pytest", "-n", "0", *schema)
    assert status == 0, said
    assert touched(tree) == {*NEW, LOSSES, *TESTS}
    page = " ".join(PAGE.split())
    new = "Nine files: the family's module, its example and its kept losses are new;"
    pages = "`docs/training.md`, `config/examples/README.md` and `CHANGELOG.md` get a row or"
    assert f"{new} three files of the tests get a block or a name; {pages} a line." in page
