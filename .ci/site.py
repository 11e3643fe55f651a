"""The pages as a site: docs/, README.md, CHANGELOG.md and those beside what they are about.

uv run python .ci/site.py              check: links, anchors, the navigation, nothing from elsewhere
uv run python .ci/site.py --to FOLDER  the same, and leave the site there; open its index.html

Exit status 1 if anything is wrong, with page and line.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs/site"
PAGES = ("README.md", "CHANGELOG.md", "docs/*.md", "config/**/*.md", "benchmarks/*.md")
CODE = re.compile(r"^```.*?^```|^(?: {4}|\t).*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|video)\b[^>]*?(?:src|href)=\"(?:https?:)?//"
)


def pages() -> list[Path]:
    """List the pages, the front page first."""
    return [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Find the links of a page to files: line, and path from the page."""
    text = page.read_text(encoding="utf-8")
    text = CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    for found in LINK.finditer(text):
        target = found[1].partition("#")[0]
        if target and "://" not in target:
            yield text.count("\n", 0, found.start()) + 1, target


def stage(folder: Path) -> list[str]:
    """Copy the pages, and what they link to, as they lie; returns what a link misses."""
    wrong = []
    copied = {*pages(), *SITE.glob("*.js"), *SITE.glob("*.css")}
    for page in pages():
        for line, target in links(page):
            path = (page.parent / target).resolve()
            if path.is_file() and path.is_relative_to(ROOT):
                copied.add(path)
            elif path.suffix != ".md":  # zensical names those, and shows the line
                wrong.append(f"{page.relative_to(ROOT)}:{line}: no such file: {target}")
    for path in copied:
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return wrong


def unlisted() -> list[str]:
    """Name the pages that no group of the navigation has."""
    settings = SITE / "zensical.toml"
    groups = tomllib.loads(settings.read_text(encoding="utf-8"))["project"]["nav"]
    entries = [entry for group in groups for entries in group.values() for entry in entries]
    listed = {next(iter(e.values())) if isinstance(e, dict) else e for e in entries}
    return [
        f"{page.relative_to(ROOT)}: in no group of {settings.relative_to(ROOT)}"
        for page in pages()
        if page.relative_to(ROOT).as_posix() not in listed
    ]


def loaded(site: Path) -> list[str]:
    """Name the pages that a browser would load something from elsewhere for."""
    return [
        f"{page.relative_to(site)}: loads {found[0]}"
        for page in sorted(site.rglob("*.html"))
        for found in [LOADED.search(page.read_text(encoding="utf-8"))]
        if found
    ]


def main() -> None:
    """Build the site, and say what is wrong with it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--to", type=Path, help="where to leave the site (a new folder)")
    to = parser.parse_args().to
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(SITE / "zensical.toml", folder)
        wrong = stage(folder / "pages") + unlisted()
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            wrong.append(COLOUR.sub("", done.stdout + done.stderr).partition("\nTraceback")[0])
        wrong += loaded(folder / "site")
        if wrong:
            sys.exit("\n".join(wrong))
        if to:
            shutil.copytree(folder / "site", to)


if __name__ == "__main__":
    main()
