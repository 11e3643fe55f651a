"""What changed since the report before, and nothing where nothing did."""

from pathlib import Path

import pytest

from spark_trainer.data import manifest, past
from spark_trainer.data.layout import Layout
from spark_trainer.report import page as pages
from spark_trainer.report.page.served import ServedLinks
from spark_trainer.store import forget
from spark_trainer.store.clips import Clip

from .read import Page

OLD, KEPT, NEW = (digit * 64 for digit in "abc")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "out")
    found.state.mkdir(parents=True)
    return found


def report(layout: Layout, captions: dict[str, str], kept: bool = True) -> Page:
    """Build the manifest of some videos, and the page."""
    entries = [
        {
            "id": video,
            "frames_dir": None,
            "audio": None,
            "meta": {"source_path": f"{video[0]}.mp4", "caption": caption},
        }
        for video, caption in captions.items()
    ]
    manifest.write(layout.manifest, entries)
    if kept:
        past.keep(layout, layout.manifest)
    pages.write(layout.manifest, layout.report, [], 10)
    return Page(layout.report)


def test_the_next_report_tells_what_changed_and_says_it_again(layout: Layout) -> None:
    assert report(layout, {OLD: "x", KEPT: "y"}).data("since") is None
    assert report(layout, {OLD: "x", KEPT: "y"}).data("since") is None
    for _ in range(2):
        told = report(layout, {KEPT: "z", NEW: "x"}).data("since")
        assert told["videos"] == [2, 2]
        assert told["data"] == {
            "added": [1, [f"{NEW[:12]} c.mp4"]],
            "removed": [1, [f"{OLD[:12]} a.mp4"]],
            "select": [1, [f"{KEPT[:12]} b.mp4"]],
        }


def test_a_page_that_is_served_takes_no_reports_place(layout: Layout) -> None:
    report(layout, {OLD: "x"})
    kept = layout.last_report.read_bytes()
    manifest.write(layout.manifest, [])
    page = layout.root / "served.html"
    served = ServedLinks(page.parent, layout.root)
    pages.write(layout.manifest, page, [], 10, served=served)
    assert Page(page).data("since")["videos"] == [1, 0]
    assert layout.last_report.read_bytes() == kept


def test_a_manifest_that_is_not_kept_is_said(layout: Layout) -> None:
    report(layout, {OLD: "x"}, kept=False)
    told = report(layout, {KEPT: "y", NEW: "z"}).data("since")
    assert (told["videos"], told["data"]) == ([1, 2], None)


def test_a_damaged_note_is_a_first_report(layout: Layout) -> None:
    report(layout, {OLD: "x"})
    layout.last_report.write_text('{"shown": 3')
    assert report(layout, {KEPT: "y"}).data("since") is None


def test_a_forgotten_video_leaves_the_report(layout: Layout) -> None:
    layout.thumbnails.parent.mkdir(parents=True, exist_ok=True)
    report(layout, {OLD: "secret words", KEPT: "y"})
    layout.thumbnails.write_text(f'{{"id":"{OLD}"}}\n{{"id":"{KEPT}"}}\n')
    forget.Forgetting(layout, Clip(OLD, ()), [], layout.root).carry_out("")
    assert not layout.report.exists()
    assert layout.thumbnails.read_text() == f'{{"id":"{KEPT}"}}\n'
    left = [path.read_bytes() for path in layout.state.rglob("*") if path.is_file()]
    assert not any(b"secret words" in content for content in left)
