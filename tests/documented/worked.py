"""Carrying out a page of docs/ that adds something, in a copy of the tree."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.documented.pages import commands
from tests.workflow.conftest import REPO, Workspace, source_tree

STRAY = {"__pycache__", ".snakemake", ".pytest_cache", "data", "runs", "logs"}  # of commands
NAME_OR_BLOCK = re.compile(r"`([\w./]+)`|^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def tree_with(page: Path, folder: Path) -> tuple[Path, set[str], dict[str, int]]:
    """Do to a copy of the tree what a page shows.

    Returns:
        the copy, the files made, and file -> lines added.
    """
    tree = source_tree(folder)
    for name in ("config", "scripts", "tests"):
        shutil.copytree(REPO / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "pyproject.toml", tree)
    return tree, *carry_out(page, tree)


def carry_out(page: Path, tree: Path) -> tuple[set[str], dict[str, int]]:
    """Do to a tree what a page shows; returns the files made, and file -> lines added."""
    made: set[str] = set()
    added: dict[str, int] = {}
    name = ""
    for named, kind, text in NAME_OR_BLOCK.findall(page.read_text(encoding="utf-8")):
        if named:
            name = named
        elif kind == "diff":
            added[name] = added.get(name, 0) + add(tree / name, text.splitlines(keepends=True))
        else:
            made.add(name)
            (tree / name).write_text(text, encoding="utf-8")
    return made, added


def touched(tree: Path) -> set[str]:
    """Name the files of a tree that the project's own lacks, or has with another content."""
    files = (path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    kept = (path for path in files if not STRAY & {*path.parts})
    return {
        path.as_posix()
        for path in kept
        if not (REPO / path).is_file() or (REPO / path).read_bytes() != (tree / path).read_bytes()
    }


def add(path: Path, lines: list[str]) -> int:
    """Put a block's lines with a plus where its others stand; returns how many."""
    before = "".join(line[1:] for line in lines if line[0] != "+")
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, (path, before)
    after = "".join(line[1:] for line in lines if line[0] != "-")
    path.write_text(text.replace(before, after), encoding="utf-8")
    return sum(line[0] == "+" for line in lines)


def planned(tree: Path, beginning: str, word: str) -> str:
    """Type the command of a page that has this word, as it stands but for `-n`; say what it says.

    It reads the configuration that is shipped.
    """
    [line] = [line for line in commands() if line.startswith(beginning) and word in line]
    status, said = python(tree, *shlex.split(line), "-n", "--cores", "1")
    assert status == 0, said
    return said


def python(tree: Path, *arguments: str) -> tuple[int, str]:
    """Run a module in the tree; returns its exit status and all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env=Workspace(tree, tree).environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
