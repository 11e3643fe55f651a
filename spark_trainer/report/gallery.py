"""A web page of a manifest: each video's frames beside its captions and transcript."""

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import quote

from spark_trainer.data import manifest
from spark_trainer.data.corrections import HAND
from spark_trainer.data.files import replacing
from spark_trainer.data.layout import Layout, frame_name
from spark_trainer.report.served import Served

FRAMES = 12  # shown of a video
HEIGHT_PX = 120


@dataclass(frozen=True)
class Frame:
    """One frame: its link, its time in the video, its width on the page."""

    link: str
    time: str
    width_px: int | None


@dataclass(frozen=True)
class Caption:
    """What one captioner said."""

    captioner: str
    model: str | None
    text: str
    score: float | None
    selected: bool


@dataclass(frozen=True)
class Video:
    """A line of the manifest as the page shows it."""

    id: str
    meta: dict[str, Any]
    duration: str
    frames: list[Frame]
    num_frames: int
    captions: list[Caption]


def write(manifest_path: Path, page: Path, limit: int) -> int:
    """Write the page, and return how many videos it shows.

    Raises:
        ValueError: a line is not a valid entry.
    """
    base = Path(os.path.relpath(manifest_path.resolve().parent, page.resolve().parent))
    html, count = render(manifest_path, base, limit)
    with replacing(page) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")
    return count


def render(
    manifest_path: Path, base: Path, limit: int, served: Served | None = None
) -> tuple[str, int]:
    """Return the page, and how many videos it shows.

    Videos come by rising agreement of their captioners; else in the manifest's order.

    Args:
        manifest_path: the manifest.
        base: the way from the page to the manifest's folder.
        limit: most videos to show.
        served: to whom it is served; None of a page that is a file.

    Raises:
        ValueError: a line is not a valid entry.
    """
    import jinja2

    counted = _Counted(manifest.read(manifest_path))
    chosen = heapq.nsmallest(limit, counted, key=_agreement)
    rejected = _Counted(manifest.rejected(Layout(manifest_path.parent).rejected))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("spark_trainer.report").joinpath("gallery.html")
    folder = manifest_path.parent
    html = environment.from_string(template.read_text(encoding="utf-8")).render(
        name=manifest_path.resolve().parent.name,
        videos=[_video(entry, folder, None if served else base) for entry in chosen],
        served=served,
        by_hand=HAND,
        total=counted.seen,
        ranked=any(_agreement(entry) < inf for entry in chosen),
        rejected=heapq.nsmallest(limit, rejected, key=lambda entry: str(entry.get("source_path"))),
        total_rejected=rejected.seen,
        height_px=HEIGHT_PX,
    )
    return html, len(chosen)


class _Counted:
    """Entries that pass one by one, so that those not shown are never all in memory."""

    def __init__(self, entries: Iterator[dict[str, Any]]) -> None:
        self._entries = entries
        self.seen = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for entry in self._entries:
            self.seen += 1
            yield entry


def _agreement(entry: manifest.Entry) -> float:
    agreement = entry["meta"].get("agreement")
    return inf if agreement is None else float(agreement)


def _video(entry: manifest.Entry, folder: Path, base: Path | None) -> Video:
    """Describe a video; without the way to its files, they are asked for by its id."""
    meta = entry["meta"]
    frames = _frames(entry, folder)
    count = min(FRAMES, len(frames))
    spread = [frames[int((i + 0.5) * len(frames) / count)] for i in range(count)]
    width_px = None
    if meta.get("width") and meta.get("height"):
        width_px = round(HEIGHT_PX * meta["width"] / meta["height"])
    shown = [
        Frame(
            quote(os.fsencode(base / path if base else f"frame/{entry['id']}/{path.name}")),
            "" if time is None else _clock(time),
            width_px,
        )
        for path, time in spread
    ]
    duration = _clock(meta["duration"]) if meta.get("duration") is not None else ""
    return Video(entry["id"], meta, duration, shown, len(frames), _captions(meta))


def _frames(entry: manifest.Entry, folder: Path) -> list[tuple[Path, float | None]]:
    """List every frame's path, relative to the manifest's folder, and its time in seconds."""
    if entry["frames_dir"] is None:
        return []
    inside = Path(entry["frames_dir"])
    times = entry["meta"].get("frame_times")
    if times is None:
        names = sorted(path.name for path in (folder / inside).glob("frame_*.jpg"))
        return [(inside / name, None) for name in names]
    return [(inside / frame_name(number), time) for number, time in enumerate(times, start=1)]


def _captions(meta: dict[str, Any]) -> list[Caption]:
    """List the selected caption, then the others by their captioners' names."""
    chosen = meta.get("captioner")
    every: dict[str, dict[str, Any]] = dict(meta.get("captions") or {})
    if chosen not in every and meta.get("caption") is not None:
        said = {"caption": meta["caption"], "model": meta.get("captioner_model")}
        every = {chosen or "caption": said} | every
    captions = [
        Caption(name, said.get("model"), said["caption"], said.get("score"), name == chosen)
        for name, said in every.items()
        if said and said.get("caption") is not None
    ]
    return sorted(captions, key=lambda caption: (not caption.selected, caption.captioner))


def _clock(seconds: float) -> str:
    """Format seconds as 1:02:03.5, with tenths only where they aren't 0."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}" + (f".{tenths % 10}" if tenths % 10 else "")
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"
