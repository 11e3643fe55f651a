"""The page in a real browser, at the widths of a desk and of a phone."""

import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data import manifest
from spark_trainer.data.layout import Layout
from spark_trainer.report import page as pages
from tests import browser
from tests.browser import Browser

from .conftest import NAMES, entry
from .test_runs import run_folder

NASTY = "</script><script>window.hit = 1</script><!--<img src=x onerror='window.hit = 2'>"
VIDEOS = 60
DESK, PHONE = 1280, 390
SECTIONS = ("glance", "gallery", "runs", "lineage", "since")


@pytest.fixture(scope="module")
def page(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty videos, one of them nasty everywhere, one with sound; two runs, the first as nasty."""
    root = tmp_path_factory.mktemp("store")
    (root / "out").mkdir()
    layout = Layout(root / "out")
    for name in NAMES:
        (layout.root / f"a #1%20 {name}").symlink_to(frames / f"a #1%20 {name}")
    with wave.open(str(layout.root / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * 16000 * 3))
    entries = []
    for number in range(VIDEOS):
        meta: dict[str, Any] = {"caption": f"video {number} of many", "duration": 1.0 + number}
        if number == 1:
            keys = ("caption", "transcript", "source_path", "captioner", "captioner_model")
            meta |= dict.fromkeys((*keys, "language", "damaged", "transcriber_model"), NASTY)
        if number == 2:
            said = {name: {"caption": f"{name} says", "model": "m"} for name in ("blip", "git")}
            meta |= {"captions": said, "agreement": 0.5, "transcript": "a rare parrot speaks"}
        one = entry(frames, NAMES[number % 3], **meta)
        entries.append(one | {"id": f"{number:064x}", "audio": "sound.wav"})
    manifest.write(layout.manifest, entries)
    bad = {"id": "f" * 64, "step": NASTY, "reason": NASTY, "source_path": NASTY}
    layout.rejected.write_text(json.dumps(bad) + "\n")
    videos = {one["id"]: {"captioner": NASTY} for one in entries[:3]}
    nasty = {"code": NASTY, "packages": {NASTY: NASTY}, "machine": NASTY, "device": NASTY}
    first = run_folder(root, "first-11111111", videos, **nasty)
    first.sample(10).write_text(
        json.dumps([{"video": NASTY, "caption": NASTY, "generated": NASTY}])
    )
    runs = [first, run_folder(root, "next-22222222", videos, base_run="first-11111111")]
    pages.write(layout.manifest, layout.report, runs, 1000)
    return layout.report


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium is installed")
    with Browser(program) as shown:
        yield shown


def open_all(shown: Browser) -> None:
    shown.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def open_video(shown: Browser, number: int) -> None:
    slot = f".slot[data-video='{number:064x}']"
    shown.run(f"document.querySelector(\"{slot}\").closest('.card').querySelector('.open').click()")


@pytest.mark.parametrize("width_px", [DESK, PHONE])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_and_asks_nobody(width_px: int, dark: bool, chromium: Browser, page: Path) -> None:
    chromium.show(width_px, dark=dark)
    chromium.open(page)
    open_all(chromium)
    shown = chromium.run(f"{list(SECTIONS)}.map((id) => document.getElementById(id).clientHeight)")
    assert min(shown) > 50
    assert chromium.run("document.documentElement.scrollWidth") <= width_px
    open_video(chromium, 2)
    assert chromium.run("document.getElementById('video').scrollWidth") <= width_px
    assert not chromium.errors
    direction = "getComputedStyle(document.querySelector('#video .text')).unicodeBidi"
    assert chromium.run(direction) == "plaintext"  # Arabic stands at the right
    asked = {request.partition(":")[0] for request in chromium.requests}
    assert asked <= {"file", "data"}


def test_a_script_in_a_text_does_nothing(chromium: Browser, page: Path) -> None:
    chromium.show(DESK)
    chromium.open(page)
    open_all(chromium)
    open_video(chromium, 1)
    open_all(chromium)
    assert chromium.run("window.hit === undefined")
    assert chromium.run("document.querySelectorAll('script:not([type])').length") == 1
    assert chromium.run("document.querySelectorAll('img[src=x]').length") == 0
    seen = chromium.run("document.getElementById('video').textContent")
    assert seen.count(NASTY) >= 5
    assert NASTY in chromium.run("document.querySelector('main').textContent")
    assert not chromium.errors


def test_videos_are_found_and_paged_and_opened_by_keys(chromium: Browser, page: Path) -> None:
    chromium.show(DESK)
    chromium.open(page)
    cards = "document.querySelectorAll('.card').length"
    assert chromium.run(cards) == 24
    chromium.run("document.querySelector('[aria-label=\"Last page\"]').click()")
    assert chromium.run(cards) == VIDEOS - 48
    chromium.press("/", "Slash")
    for letter in "rare parrot":
        chromium.press(letter)
    chromium.run("new Promise((done) => setTimeout(done, 400))")
    assert chromium.run(cards) == 1
    chromium.run("document.querySelector('.open').focus()")
    chromium.press("Enter")
    chromium.run("document.querySelector('.open').click()")
    said = chromium.run("document.querySelector('.told').textContent")
    assert all(text in said for text in ("blip says", "git says", "a rare parrot speaks"))


def test_a_bar_filters_and_a_link_opens_a_video(chromium: Browser, page: Path) -> None:
    chromium.show(DESK)
    chromium.open(page)
    chromium.run("document.querySelector('[data-filter=\"Duration: 5–10 s\"]').click()")
    assert chromium.run("document.querySelector('#gallery [role=status]').textContent") == (
        f"5 of {VIDEOS} videos"
    )
    chromium.open(page, f"#video-{7:064x}")
    assert chromium.run("document.getElementById('video').open")


def test_a_video_whose_file_is_not_there_plays_as_frames_with_sound(
    chromium: Browser, page: Path
) -> None:
    chromium.show(DESK)
    chromium.open(page)
    open_video(chromium, 0)
    played = """(async () => {
      const sound = document.querySelector('#video audio');
      const still = document.querySelector('#video .still');
      const before = still.src;
      sound.muted = true;
      sound.currentTime = 1.2;
      await sound.play();
      await new Promise((done) => setTimeout(done, 700));
      return [sound.currentTime > 1.2, still.naturalWidth > 0, still.src !== before];
    })()"""
    assert chromium.run(played) == [True, True, True]
    assert not chromium.errors


def test_runs_are_drawn_over_each_other_and_read_at_a_cursor(chromium: Browser, page: Path) -> None:
    chromium.show(DESK)
    chromium.open(page)
    assert chromium.run("document.querySelectorAll('.curves .line').length") == 2
    chromium.run("document.querySelector('.curves svg').focus()")
    chromium.press("ArrowLeft")
    said = chromium.run("document.querySelector('.readout').textContent")
    assert "Update 9" in said
    assert "next-22222222 2.1" in said
    chromium.run("document.querySelector('.run input').click()")
    assert chromium.run("document.querySelectorAll('.curves .line').length") == 1
    assert "next-22222222 begins with the weights of first-11111111" in chromium.run(
        "document.querySelector('.tree').textContent"
    )


def test_runs_that_cannot_be_compared_are_not(
    chromium: Browser, frames: Path, tmp_path: Path
) -> None:
    """None is the best over other data, and a sample stands beside the runs that have it."""
    root = tmp_path / "out"
    root.mkdir()
    layout = Layout(root)
    entries = [{"id": digit * 64, "frames_dir": None, "audio": None, "meta": {}} for digit in "ab"]
    manifest.write(layout.manifest, entries)
    one = run_folder(tmp_path, "one-11111111", {"a" * 64: {}})
    other = run_folder(tmp_path, "other-22222222", {"b" * 64: {}}, manifest_sha256="1" * 64)
    twin = run_folder(tmp_path, "twin-33333333", {"b" * 64: {}}, manifest_sha256="1" * 64)
    lines = '{"step": 0, "held_out_loss": 1}\n{"step": 1, "held_out_loss": 0.5}\n'
    twin.metrics.write_text(lines)
    pages.write(layout.manifest, layout.report, [one, other, twin], 10)
    chromium.open(layout.report)
    best = "[...document.querySelectorAll('.run')].filter((run) => run.querySelector('.best'))"
    assert chromium.run(f"{best}.map((run) => run.querySelector('span').textContent)") == [
        "twin-33333333"
    ]
    sides = (
        "[...document.querySelectorAll('.sample')].map((one) => one.querySelectorAll('h4').length)"
    )
    assert chromium.run(sides) == [1, 2]


def test_a_page_without_anything_is_drawn(chromium: Browser, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    manifest.write(layout.manifest, [])
    pages.write(layout.manifest, layout.report, [], 10)
    chromium.open(layout.report)
    said = chromium.run("document.querySelector('main').textContent")
    assert all(text in said for text in ("The manifest has no video.", "No run yet."))
    assert not chromium.errors
