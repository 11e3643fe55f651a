"""What the page's gallery says of videos, and where its links lead."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from spark_trainer import cli
from spark_trainer.report.page import videos

from .conftest import NAMES, Build, entry
from .read import Page

NASTY = "</script><script>alert('x')</script><!-- & \"quotes\" {{ 7 * 7 }} \u2028"


def shown(page: Page) -> list[Any]:
    return list(page.data("texts-0"))


def test_it_shows_what_the_manifest_holds(frames: Path, build: Build) -> None:
    talk = {"transcript": "hello there", "no_transcript": None, "language": "en"}
    page = build([entry(frames, "dog"), entry(frames, "cup", **talk)])
    columns = page.data("videos")
    assert columns["name"] == ["dog.mp4", "cup.mp4"]
    assert columns["side"] == [360, 360]
    assert (columns["spoken"], columns["language"]) == ([0, 2], [None, "en"])
    dog, cup = shown(page)
    assert dog["captions"] == [["blip", "some/model", "a dog", None, 1]]
    assert dog["no_transcript"] == "no audio"
    assert cup["segments"] == [[None, "hello there"]]


def test_links_are_relative_and_lead_to_the_files(frames: Path, build: Build) -> None:
    source = frames / "a: colon.mp4"
    source.touch()
    link = frames / ".spark/videos" / entry(frames, "dog")["id"]
    link.parent.mkdir(parents=True)
    link.symlink_to(source)
    entries = [entry(frames, name) for name in NAMES]
    elsewhere = frames / "deep" / "er" / "page.html"
    elsewhere.parent.mkdir(parents=True)
    for page in (frames / "report.html", elsewhere):
        for video in shown(build(entries, page=page)):
            files = [f"{video['frames']}/{name}" for name, _ in video["shots"]]
            files += [video["file"]] if "file" in video else []
            assert not [one for one in files if ":" in one or one.startswith("/")]
            assert all((page.parent / unquote(one)).is_file() for one in files)
    assert "file" in shown(Page(elsewhere))[0]


def test_a_long_video_is_a_few_frames(frames: Path, build: Build) -> None:
    times = [i / 2 for i in range(1000)]
    (video,) = shown(build([entry(frames, "dog", frame_times=times, duration=3723.5)]))
    assert len(video["shots"]) == videos.FRAMES
    assert video["num_frames"] == 1000


@pytest.mark.parametrize("key", ["caption", "transcript", "no_transcript", "source_path", "model"])
def test_nothing_of_the_videos_becomes_markup(key: str, frames: Path, build: Build) -> None:
    meta: dict[str, Any] = {key: NASTY}
    if key == "model":
        meta = {"captions": {NASTY: {"caption": NASTY, "model": NASTY}}}
    plain, page = build([entry(frames, "dog")]), build([entry(frames, "dog", **meta)])
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    told = json.dumps([page.data("videos"), page.data("texts-0")], ensure_ascii=False)
    assert json.dumps(NASTY, ensure_ascii=False)[1:-1] in told


def test_captions_stand_side_by_side_and_disagreement_comes_first(
    frames: Path, build: Build
) -> None:
    said = {
        "florence2": {"caption": "a white dog", "model": "f/2", "score": 0.25},
        "blip": {"caption": "a dog", "model": "b/1"},
    }
    entries = [
        entry(frames, "dog", captions=said, agreement=0.9),
        entry(frames, "title"),
        entry(frames, "cup", captions=said, agreement=0.1, captioner="florence2"),
    ]
    page = build(entries)
    assert page.data("videos")["name"] == ["cup.mp4", "dog.mp4", "title.mp4"]
    assert shown(page)[0]["captions"] == [
        ["florence2", "f/2", "a white dog", 0.25, 1],
        ["blip", "b/1", "a dog", None, 0],
    ]


def test_a_cut_page_counts_all(frames: Path, build: Build) -> None:
    page = build([entry(frames, name) for name in NAMES], limit=2)
    assert (page.data("info")["total"], len(page.data("videos")["id"])) == (3, 2)
    assert page.data("glance")["totals"]["videos"] == 3


def test_a_video_without_frames_or_caption_is_shown(build: Build) -> None:
    page = build([{"id": "a" * 64, "frames_dir": None, "audio": None, "meta": {}}])
    assert page.data("videos")["name"] == ["a" * 12]
    assert (shown(page), page.data("pictures-0")) == ([{}], [""])


def test_the_command_names_what_is_missing(
    frames: Path, build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build([entry(frames, "dog")])
    flags = ["--manifest", str(frames / "manifest_v1.jsonl"), "--page", str(tmp_path / "p.html")]
    with pytest.raises(SystemExit) as done:
        cli.main(["report", *flags])
    assert done.value.code == 0
    assert "1 video" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        cli.main(["report", "--manifest", str(tmp_path / "none.jsonl")])
    assert "no manifest yet" in capsys.readouterr().err
