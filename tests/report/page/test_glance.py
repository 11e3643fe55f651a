"""Every line is counted, in ranges that a reader can name, and by who made what."""

import json
from pathlib import Path
from typing import Any

from .conftest import Build, entry


def bars(told: dict[str, Any], key: str) -> dict[str, int]:
    chart = next(chart for chart in told["charts"] if chart["key"] == key)
    return {bar["label"]: bar["count"] for bar in chart["bars"]}


def test_sums_and_ranges(frames: Path, build: Build) -> None:
    talk = {"transcript": "one two three", "language": "de", "transcriber": "w", "damaged": "cut"}
    entries = [
        entry(frames, "dog", duration=5.0, agreement=0.99),
        entry(frames, "title", duration=12.0, agreement=1.0, width=3840, height=2160, **talk),
        entry(frames, "cup", duration=4.9, caption=None, no_caption="too dark"),
    ]
    told = build(entries).data("glance")
    totals = told["totals"]
    assert (totals["videos"], totals["seconds"]) == (3, 21.9)
    assert (totals["captioned"], totals["spoken"], totals["transcribed"]) == (2, 3, 1)
    assert totals["damaged"] == 1
    assert bars(told, "seconds") == {"2–5 s": 1, "5–10 s": 1, "10–20 s": 1}
    assert bars(told, "side") == {
        "360": 2,
        "480": 0,
        "720": 0,
        "1080": 0,
        "1440": 0,
        "2160 and up": 1,
    }
    assert bars(told, "agreement") == {"0.9–1.0": 2}
    assert bars(told, "words") == {"none": 1, "1–5": 2}
    assert bars(told, "language") == {"de": 1}
    assert ["caption", "too dark", 1] in told["without"]


def test_tags_are_no_captions(frames: Path, build: Build) -> None:
    by = {"captioner": "imagenet-tags"}
    entries = [
        entry(frames, "dog", caption="tags: Samoyed", **by),
        entry(frames, "title", caption="no tag", **by),
        entry(frames, "cup", caption="a cup in a hand"),
    ]
    told = build(entries).data("glance")
    assert (told["totals"]["captioned"], told["totals"]["tagged"]) == (2, 1)
    assert bars(told, "words") == {"1–5": 1}
    assert ["caption", "no tag", 1] in told["without"]


def test_rejected_videos_are_counted_by_reason(frames: Path, build: Build) -> None:
    reasons = ["no video stream", "empty", "no video stream"]
    lines = [
        {"id": f"{n:064x}", "reason": why, "step": "frames", "source_path": f"{n}.mp4"}
        for n, why in enumerate(reasons)
    ]
    path = frames / "rejected_v1.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = build([entry(frames, "dog")]).data("glance")
    path.unlink()
    assert told["reasons"] == [["frames", "no video stream", 2], ["frames", "empty", 1]]
    assert told["rejected"][0] == ["0.mp4", "frames", "no video stream"]
    assert told["num_rejected"] == 3


def test_who_made_the_texts(frames: Path, build: Build) -> None:
    made = {"model": "m", "revision": "r", "prompt": "p"}
    said = {"blip": {"caption": "a b c", **made}, "florence2": {"caption": "a", **made}}
    entries = [entry(frames, "dog", captions=said), entry(frames, "cup", captions=said)]
    page = build(entries)
    assert page.data("lineage")["makers"] == [
        ["captions", "blip", "m", "r", "p", 2],
        ["captions", "florence2", "m", "r", "p", 2],
    ]
    assert page.data("glance")["captioners"] == {
        "blip": {"videos": 2, "words": 3.0, "selected": 2},
        "florence2": {"videos": 2, "words": 1.0, "selected": 0},
    }
