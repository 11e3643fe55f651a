"""The report over ten thousand videos: how long it takes to write, and to open in a browser.

uv run python benchmarks/report.py

The manifest is made up: texts of usual lengths, three captioners, frames of the demo's clips. The
page is opened by Chromium without a window; `CHROMIUM` names its program where it isn't found.
"""

import hashlib
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import measure
from measure import Measured, Options, Target

from spark_trainer.data import manifest
from spark_trainer.data.layout import Layout
from spark_trainer.media import stills
from spark_trainer.report import page as pages
from spark_trainer.runs.folder import RunFolder
from tests import browser

OPENED = 5  # times; the median counts
MAX_OPEN_S = 2.0
MAX_MB = 40.0
DEMO = measure.REPOSITORY / "config/demo/clips"
SHOWN = ("bunny", "cup", "dog", "globe-reading", "title")
WORDS = (
    *("a", "the", "of", "in", "on", "with", "while", "dog", "cup", "table", "person", "camera"),
    *("street", "rabbit", "light", "slowly", "turns", "walks", "holds", "looks", "red", "white"),
    *("small", "large", "left", "right", "background", "tree", "water", "hand", "face", "book"),
)
LANGUAGES = ("en", "en", "en", "de", "fr", "es", "ja", None)
CAPTIONERS = ("blip", "florence2", "qwen2-vl")
CURVES = ("loss", "held_out_loss", "learning_rate", "grad_norm", "samples_per_s", "tokens_per_s")


def said(draw: random.Random, most: int) -> str:
    """Make up a text."""
    return " ".join(draw.choices(WORDS, k=draw.randint(3, most))).capitalize() + "."


def entry(number: int, draw: random.Random, root: Path) -> manifest.Entry:
    """Make up a line of the manifest, whose frames are some clip's below `root`."""
    folder = f"{SHOWN[number % len(SHOWN)]}/frames"
    frames = len(list((root / folder).iterdir()))
    video = hashlib.sha256(str(number).encode()).hexdigest()
    captions = {
        name: {
            "caption": said(draw, 40),
            "model": f"some/{name}",
            "revision": "main",
            "score": None,
        }
        for name in CAPTIONERS
    }
    seconds = round(draw.lognormvariate(2.3, 0.8), 2)
    language = draw.choice(LANGUAGES)
    segments = [
        {"start": float(start), "end": start + 4.0, "text": said(draw, 14), "words": None}
        for start in (range(0, int(seconds), 4) if language else ())
    ]
    width, height = draw.choice(((1920, 1080), (1280, 720), (720, 1280), (3840, 2160), (640, 480)))
    chosen = draw.choice(CAPTIONERS)
    meta = {
        "source_path": f"camera {number % 7}/take {number:05d}.mp4",
        "sources": [f"camera {number % 7}/take {number:05d}.mp4"],
        "duration": seconds,
        "frame_times": [float(second) for second in range(frames)],
        "fps": 25.0,
        "motion": round(draw.random(), 2),
        "width": width,
        "height": height,
        "damaged": "cut short" if number % 200 == 0 else None,
        "transcript": " ".join(one["text"] for one in segments) or None,
        "segments": segments or None,
        "no_transcript": None if language else "no voice",
        "language": language,
        "transcriber": "faster-whisper",
        "transcriber_model": "base",
        "caption": captions[chosen]["caption"],
        "captioner": chosen,
        "captioner_model": f"some/{chosen}",
        "captions": captions,
        "agreement": round(draw.betavariate(3, 4), 3),
    }
    return {"id": video, "frames_dir": folder, "audio": None, "meta": meta}


def run(folder: Path, name: str, entries: list[manifest.Entry], draw: random.Random) -> RunFolder:
    """Make up what a run of two thousand updates leaves."""
    from spark_trainer.config import Run

    made = RunFolder(folder / name)
    made.samples.mkdir(parents=True)
    chosen = Run(learning_rate=draw.choice((1e-5, 3e-5, 1e-4)), max_steps=2000)
    told = {"settings": chosen.model_dump(mode="json"), "versions": None}
    made.run_file.write_text(json.dumps(told))
    lineage = {
        "videos": {one["id"]: {"captioner": one["meta"]["captioner"]} for one in entries},
        "manifest_sha256": "0" * 64,
    }
    made.lineage.write_text(json.dumps(lineage))
    manifest.write(made.manifest, entries)
    with open(made.metrics, "w", encoding="utf-8") as file:
        for step in range(2000):
            values = {key: draw.random() + 4 / (1 + step / 100) for key in CURVES}
            file.write(json.dumps({"step": step} | values) + "\n")
    for step in (0, 1000, 2000):
        samples = [
            {"video": one["id"], "caption": one["meta"]["caption"], "generated": said(draw, 20)}
            for one in entries[:8]
        ]
        made.sample(step).write_text(json.dumps(samples))
    return made


def measured(folder: Path, chosen: Options) -> Measured:
    """Write the page twice, and open it."""
    program = browser.find()
    if program is None and not chosen.smoke:
        sys.exit("no Chromium is installed; nothing can be measured")
    draw = random.Random(0)
    layout = Layout(folder / "out")
    layout.state.mkdir(parents=True)
    for name in SHOWN:
        target = layout.root / name / "frames"
        target.mkdir(parents=True)
        stills.extract(str(DEMO / f"{name}.mp4"), str(target), 1.0, 2, None, "auto", 150.0, 999)
    entries = sorted(
        (entry(n, draw, layout.root) for n in range(chosen.videos)), key=lambda one: one["id"]
    )
    manifest.write(layout.manifest, entries)
    bad = [{"id": f"{n:064x}", "step": "frames", "reason": "no video stream"} for n in range(200)]
    manifest.write(layout.rejected, bad)
    runs = [run(folder / "runs", f"made-{n:08x}", entries, draw) for n in range(chosen.runs)]
    seconds = {}
    for which in ("first", "again"):
        began = time.perf_counter()
        pages.write(layout.manifest, layout.report, runs, chosen.videos)
        seconds[which] = time.perf_counter() - began
    size_mb = layout.report.stat().st_size / 1e6
    opened, searched = opening(program, layout.report) if program else ({"none": [0.0]}, [])
    print(
        f"written in {seconds['first']:.1f} s, again in {seconds['again']:.1f} s: {size_mb:.1f} MB"
    )
    print(f"opened in {opened} s, first search {searched} s")
    figures: dict[str, Any] = {
        "written_s": seconds,
        "page_mb": size_mb,
        "opened_s": opened,
        "first_search_s": searched,
        "browser": program,
    }
    worst = max(statistics.median(times) for times in opened.values())
    name = f"seconds to open {chosen.videos:,} videos"
    return figures, [Target(name, worst, MAX_OPEN_S), Target("MB of the page", size_mb, MAX_MB)]


def opening(program: str, page: Path) -> tuple[dict[str, list[float]], list[float]]:
    """Open the page at two widths; returns the seconds of each, and those of a first search."""
    opened: dict[str, list[float]] = {}
    searched = []
    timed = "const began = performance.now(); search(); performance.now() - began"
    for width_px in (1280, 390):
        for _ in range(OPENED):
            with browser.Browser(program) as shown:
                shown.show(width_px)
                opened.setdefault(f"{width_px} px", []).append(shown.open(page) / 1000)
                searched.append(
                    round(shown.run(f"{{ wanted.text = 'rabbit'; {timed} }}") / 1000, 3)
                )
    return opened, searched


if __name__ == "__main__":
    measure.main(
        __doc__ or "",
        measured,
        videos=(10_000, 300, "videos in the manifest"),
        runs=(6, 2, "runs"),
    )
