"""The pages as a site: what `.ci/site.py` finds wrong, and a site that works from the disk."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import browser

from .pages import PAGES, ROOT

pytest.importorskip("zensical")
PROGRAM = browser.find()


def build(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Build the site of a tree."""
    command = [sys.executable, str(root / ".ci/site.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    """An anchor, a page, a file and a group that are missing, and what would be loaded."""
    others = (ROOT / ".ci/site.py", ROOT / "config/default.yaml")
    for path in (*PAGES, *ROOT.glob("config/demo/*/README.md"), *others):
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    shutil.copytree(ROOT / "docs/site", tmp_path / "docs/site")
    with (tmp_path / "README.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](docs/runs.md#no-such-anchor) [b](docs/no-such-page.md)\n\n[c](no.yaml)\n")
    (tmp_path / "docs/stray.md").write_text('# Stray\n\n<img src="https://example.org/a.png">\n')
    done = build(tmp_path)
    assert done.returncode == 1
    lines = (tmp_path / "README.md").read_text(encoding="utf-8").count("\n")
    assert f"README.md:{lines}: no such file: no.yaml" in done.stderr
    assert "docs/stray.md: in no group of docs/site/zensical.toml" in done.stderr
    assert "docs/stray.html: loads" in done.stderr
    assert done.stderr.count("README.md:") == 3
    assert "anchor does not exist" in done.stderr
    assert "page does not exist" in done.stderr


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
def test_search_works_from_the_disk(tmp_path: Path) -> None:
    assert PROGRAM
    done = build(ROOT, "--to", str(tmp_path / "site"))
    assert not done.returncode, done.stderr
    with browser.Browser(PROGRAM) as seen:
        seen.show(390)
        page = tmp_path / "site/docs/labels.html"
        seen.call("Page.navigate", url=page.as_uri())
        there = "document.querySelector('.md-search__button') !== null"
        seen.wait_for(f"document.readyState === 'complete' && {there}")  # its script has run
        assert seen.run("document.documentElement.scrollWidth") <= 390
        seen.run("document.querySelector('.md-search__button').click()")
        shown = "[...document.querySelectorAll('*')].map(e => e.shadowRoot).find(r => r)"
        seen.wait_for(f"{shown}.activeElement?.tagName === 'INPUT'")
        seen.call("Input.insertText", text="sidecar")
        seen.wait_for(rf"/\d+ results/.test({shown}.textContent)")
        assert seen.run(f"[...{shown}.querySelectorAll('a')].some(a => a.href.includes('labels'))")
        assert not [one for one in seen.requests if not one.startswith(("file:", "data:"))]
        assert not seen.errors
