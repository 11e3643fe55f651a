"""The page over a manifest of the demo's clips, read as a browser reads it."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from spark_trainer import cli
from spark_trainer.data import manifest
from spark_trainer.report import gallery
from tests import ffmpeg

NASTY = "<script>alert('x')</script> & \"quotes\" {{ 7 * 7 }}"
NAMES = ("dog", "title", "cup")


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    def values(self, tag: str, name: str) -> list[str]:
        return [found[name] or "" for t, found in self.tags if t == tag and name in found]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


@pytest.fixture(scope="module")
def frames(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames a second of some clips, in folders whose names need quoting in a link."""
    folder = tmp_path_factory.mktemp("out")
    for name in NAMES:
        inside = folder / f"a #1%20 {name}" / "frames"
        inside.mkdir(parents=True)
        shown = ffmpeg.read(clips / f"{name}.mp4").filter("fps", 2)
        ffmpeg.write(shown.output(f"{str(inside).replace('%', '%%')}/frame_%06d.jpg"))
    return folder


def entry(folder: Path, name: str, **meta: Any) -> manifest.Entry:
    inside = f"a #1%20 {name}/frames"
    count = len(list((folder / inside).iterdir()))
    known = {
        "source_path": f"{name}.mp4",
        "duration": count / 2,
        "frame_times": [i / 2 for i in range(count)],
        "caption": f"a {name}",
        "captioner": "blip",
        "captioner_model": "some/model",
        "transcript": None,
        "no_transcript": "no audio",
    }
    number = NAMES.index(name)
    return {"id": f"{number:064x}", "frames_dir": inside, "audio": None, "meta": known | meta}


def build(folder: Path, entries: list[manifest.Entry], limit: int = 500) -> Page:
    path = folder / "manifest_v1.jsonl"
    manifest.write(path, entries)
    gallery.write(path, folder / "gallery.html", limit)
    return Page(folder / "gallery.html")


def test_it_shows_what_the_manifest_holds(frames: Path) -> None:
    talk = {"transcript": "hello there", "no_transcript": None, "language": "en"}
    page = build(frames, [entry(frames, "dog"), entry(frames, "cup", **talk)])
    for said in ("2 videos", "dog.mp4", "a dog", "blip", "some/model", "no audio", "hello there"):
        assert said in page.text, said
    assert len(page.values("article", "id")) == 2


def test_links_are_relative_and_lead_to_the_frames(frames: Path) -> None:
    page = build(frames, [entry(frames, name) for name in NAMES])
    links = page.values("img", "src")
    assert links
    assert not [link for link in links if link.startswith(("/", "file:", "http", "data:"))]
    assert all((frames / unquote(link)).is_file() for link in links)
    assert set(page.values("img", "loading")) == {"lazy"}
    elsewhere = frames / "deep" / "er" / "page.html"
    gallery.write(frames / "manifest_v1.jsonl", elsewhere, 1)
    links = Page(elsewhere).values("img", "src")
    assert links
    assert all((elsewhere.parent / unquote(link)).is_file() for link in links)


def test_a_long_video_is_a_few_frames(frames: Path) -> None:
    many = {"frame_times": [i / 2 for i in range(1000)], "duration": 3723.5}
    page = build(frames, [entry(frames, "dog", **many)])
    assert len(page.values("img", "src")) == gallery.FRAMES
    assert "12 of 1,000 frames" in page.text
    assert "1:02:03.5" in page.text


@pytest.mark.parametrize("key", ["caption", "transcript", "no_transcript", "source_path", "model"])
def test_nothing_of_the_videos_becomes_markup(key: str, frames: Path) -> None:
    meta: dict[str, Any] = {key: NASTY}
    if key == "model":
        meta = {"captions": {NASTY: {"caption": NASTY, "model": NASTY}}}
    page = build(frames, [entry(frames, "dog", **meta)])
    assert "script" not in {tag for tag, _ in page.tags}
    assert " ".join(NASTY.split()) in page.text


def test_captions_stand_side_by_side_and_disagreement_comes_first(frames: Path) -> None:
    said = {
        "florence2": {"caption": "a white dog", "model": "f/2", "score": 0.25},
        "blip": {"caption": "a dog", "model": "b/1"},
    }
    entries = [
        entry(frames, "dog", captions=said, agreement=0.9),
        entry(frames, "title"),
        entry(frames, "cup", captions=said, agreement=0.1, caption="a white dog"),
    ]
    page = build(frames, entries)
    order = [int(name.removeprefix("v"), 16) for name in page.values("article", "id")]
    assert [NAMES[number] for number in order] == ["cup", "dog", "title"]
    assert "agree least" in page.text
    assert "f/2 · 0.25 a white dog" in page.text
    assert page.values("div", "class").count("selected") == 3
    assert page.text.index("a dog") < page.text.index("a white dog"), "the selected one is first"


def test_a_cut_page_says_so(frames: Path) -> None:
    page = build(frames, [entry(frames, name) for name in NAMES], limit=2)
    assert "2 of 3 videos" in page.text
    assert len(page.values("article", "id")) == 2


def test_rejected_videos_stand_at_the_end(frames: Path) -> None:
    path = frames / "rejected_v1.jsonl"
    path.write_text(
        json.dumps({"id": "f" * 64, "reason": NASTY, "step": "frames", "source_path": "broken.mp4"})
    )
    page = build(frames, [entry(frames, "dog")])
    path.unlink()
    assert page.values("a", "href")[0] == "#rejected"
    assert page.text.index("dog.mp4") < page.text.index("broken.mp4")
    assert page.text.endswith(" ".join(NASTY.split()))


def test_a_video_without_frames_or_caption_is_shown(frames: Path) -> None:
    bare = {"id": "a" * 64, "frames_dir": None, "audio": None, "meta": {}}
    page = build(frames, [bare])
    assert "a" * 64 in page.text
    assert "caption none" in page.text


def test_the_command_names_what_is_missing(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(frames, [entry(frames, "dog")])
    flags = ["--manifest", str(frames / "manifest_v1.jsonl"), "--page", str(tmp_path / "p.html")]
    with pytest.raises(SystemExit) as done:
        cli.main(["gallery", *flags])
    assert done.value.code == 0
    assert "1 videos" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        cli.main(["gallery", "--manifest", str(tmp_path / "none.jsonl")])
    assert "no manifest yet" in capsys.readouterr().err
