"""The gallery's videos: columns to sort by, and what is told of each once it is shown."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from spark_trainer.data.layout import Layout, frame_name
from spark_trainer.data.manifest import Entry
from spark_trainer.data.texts import is_tags

FRAMES = 12  # named of a video
FACTS = (  # of `meta` that are told of a video as they are
    *("fps", "motion", "dynamic_range", "interlaced", "damaged", "no_caption", "transcriber"),
    *("transcriber_model", "transcriber_revision", "flag"),
)


@dataclass(frozen=True)
class Links:
    """Relative links from the page: they hold as long as the files keep their place beside it."""

    page: Path
    store: Path

    @classmethod
    def of(cls, page: Path, layout: Layout) -> Self:
        """Link from a page that may lie anywhere."""
        return cls(page.resolve().parent, layout.root.resolve())

    def to(self, path: Path) -> str:
        """Return the link to a file; a colon in its name is no scheme."""
        return quote(os.fsencode(os.path.relpath(path.absolute(), self.page)))

    def inside(self, path: str | None) -> str | None:
        """Return the link to what a line of the manifest names."""
        return None if path is None else self.to(self.store / path)

    def own_file(self, layout: Layout, video: str) -> str | None:
        """Return the link to the video's own file, as the last build found it."""
        path = layout.located(video)
        return None if path == layout.source(video) else self.to(path)


@dataclass(frozen=True)
class Caption:
    """What one captioner said, and by which model and prompt."""

    captioner: str
    model: str | None
    revision: str | None
    prompt: str | None
    text: str
    score: float | None
    selected: bool


def captions(meta: Mapping[str, Any]) -> list[Caption]:
    """List the selected caption, then the others by their captioners' names."""
    chosen = meta.get("captioner")
    every: dict[str, dict[str, Any]] = dict(meta.get("captions") or {})
    if chosen not in every and meta.get("caption") is not None:
        made = {
            "caption": meta["caption"],
            "model": meta.get("captioner_model"),
            "revision": meta.get("captioner_revision"),
            "prompt": meta.get("caption_prompt"),
        }
        chosen = chosen or "caption"
        every = {chosen: made} | every
    found = [
        Caption(
            *(name, said.get("model"), said.get("revision"), said.get("prompt")),
            *(said["caption"], said.get("score"), name == chosen),
        )
        for name, said in every.items()
        if said and said.get("caption") is not None
    ]
    return sorted(found, key=lambda caption: (not caption.selected, caption.captioner))


def doubt(entry: Entry) -> float:
    """Return what orders videos: how far their captioners agree; infinity where nothing says."""
    agreement = entry["meta"].get("agreement")
    return inf if agreement is None else float(agreement)


def num_words(text: str | None) -> int:
    """Count the words of a text."""
    return len((text or "").split())


def columns(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Return what the gallery filters and sorts by, a list of values for each fact."""
    metas = [entry["meta"] for entry in entries]
    said = {
        "name": [meta.get("source_path") or entry["id"][:12] for entry, meta in _pairs(entries)],
        "seconds": [_rounded(meta.get("duration")) for meta in metas],
        "side": [_side(meta) for meta in metas],
        "language": [meta.get("language") for meta in metas],
        "words": [None if is_tags(meta) else num_words(meta.get("caption")) for meta in metas],
        "spoken": [num_words(meta.get("transcript")) for meta in metas],
        "agreement": [_rounded(meta.get("agreement")) for meta in metas],
        "captioner": [meta.get("captioner") for meta in metas],
        "damaged": [int(meta.get("damaged") is not None) for meta in metas],
    }
    return {"id": [entry["id"] for entry in entries]} | said


def _pairs(entries: Sequence[Entry]) -> Iterable[tuple[Entry, dict[str, Any]]]:
    return ((entry, entry["meta"]) for entry in entries)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _side(meta: Mapping[str, Any]) -> int | None:
    """Return the shorter side in pixels, by which people call sizes: 720, 1080."""
    sides = meta.get("width"), meta.get("height")
    return None if None in sides else min(side for side in sides if side is not None)


def frames(entry: Entry, store: Path) -> list[tuple[str, float | None]]:
    """List the file names of a video's frames and their times in seconds."""
    if entry["frames_dir"] is None:
        return []
    times = entry["meta"].get("frame_times")
    if times is None:
        found = sorted(path.name for path in (store / entry["frames_dir"]).glob("frame_*"))
        return [(name, None) for name in found]
    return [(frame_name(number), time) for number, time in enumerate(times, start=1)]


def middles(entries: Iterable[Entry], store: Path) -> dict[str, Path]:
    """Return id -> the file of the frame in the middle, of videos that have frames."""
    found = {}
    for entry in entries:
        if every := frames(entry, store):
            found[entry["id"]] = store / entry["frames_dir"] / every[len(every) // 2][0]
    return found


def details(
    entry: Entry, links: Links, layout: Layout, seen_by: Mapping[str, Sequence[tuple[int, str]]]
) -> dict[str, Any]:
    """Return what is told of a video once it is shown; what there is not is left out.

    Args:
        entry: its line of the manifest.
        links: makes links from the page.
        layout: the store that knows the video's own file.
        seen_by: id -> number of each run that saw it, and the split.
    """
    meta = entry["meta"]
    every = frames(entry, layout.root)
    count = min(FRAMES, len(every))
    said = {
        "captions": [
            [one.captioner, one.model, one.text, _rounded(one.score), int(one.selected)]
            for one in captions(meta)
        ],
        "segments": _segments(meta),
        "no_transcript": None if meta.get("transcript") else meta.get("no_transcript"),
        "size": [meta["width"], meta["height"]] if meta.get("width") else None,
        "file": links.own_file(layout, entry["id"]),
        "audio": links.inside(entry.get("audio")),
        "frames": links.inside(entry["frames_dir"]),
        "num_frames": len(every),
        "shots": [every[int((i + 0.5) * len(every) / count)] for i in range(count)],
        "files": (meta.get("sources") or [])[1:],
        "runs": seen_by.get(entry["id"]),
        "facts": {key: meta[key] for key in FACTS if meta.get(key) not in (None, False)},
    }
    return {key: value for key, value in said.items() if value}


def _segments(meta: Mapping[str, Any]) -> list[tuple[float | None, str]]:
    """List what is said, with the second at which each part begins, where it is known."""
    told = [(one.get("start"), one.get("text")) for one in meta.get("segments") or ()]
    parts = [(_rounded(start), text.strip()) for start, text in told if text]
    text = meta.get("transcript") or ""
    return parts or ([(None, text)] if text else [])
