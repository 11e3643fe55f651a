"""What is counted over every line of a manifest, whichever videos the gallery shows."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import pairwise
from math import inf
from typing import Any

from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.layout import Layout
from spark_trainer.data.manifest import Entry
from spark_trainer.data.texts import NO_TAG, is_tags
from spark_trainer.report.page import videos

MOST = 12  # bars of a kind that has no order; the others are counted together


@dataclass
class Scale:
    """Counts of a number that is put into ranges, each from an edge to below the next."""

    title: str
    key: str  # the column that holds the number
    labels: Mapping[float, str]  # by the edge at which a range begins
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, value: float | None) -> None:
        """Count a value; nothing where there is none."""
        if value is not None:
            self.counts[bisect_right([*self.labels], value) - 1] += 1

    def told(self) -> dict[str, Any]:
        """Return the ranges from the first to the last that hold something."""
        used = [place for place in sorted(self.counts) if self.counts[place]]
        ranges, labels = list(pairwise([*self.labels, inf])), list(self.labels.values())
        bars = [
            {
                "label": labels[place],
                "count": self.counts[place],
                "from": ranges[place][0],
                "to": None if ranges[place][1] == inf else ranges[place][1],
            }
            for place in (range(used[0], used[-1] + 1) if used else ())
        ]
        return {"title": self.title, "key": self.key, "bars": bars}


# The edge at which a range begins -> what it is called.
DURATIONS: dict[float, str] = {
    0: "under 2 s",
    2: "2–5 s",
    5: "5–10 s",
    10: "10–20 s",
    20: "20–30 s",
    30: "30–60 s",
    60: "1–2 min",
    120: "2–5 min",
    300: "5–10 min",
    600: "10–30 min",
    1800: "30–60 min",
    3600: "over 1 h",
}
SIDES: dict[float, str] = {
    0: "under 240",
    **{side: str(side) for side in (240, 360, 480, 720, 1080, 1440)},
    2160: "2160 and up",
}
WORDS: dict[float, str] = {
    0: "none",
    1: "1–5",
    6: "6–10",
    11: "11–20",
    21: "21–40",
    41: "41–80",
    81: "81–160",
    161: "over 160",
}
TENTHS = {tenth / 10: f"{tenth / 10:.1f}–{(tenth + 1) / 10:.1f}" for tenth in range(10)}


def _scales() -> dict[str, Scale]:
    found = (
        Scale("Duration", "seconds", DURATIONS),
        Scale("Picture size, shorter side", "side", SIDES),
        Scale("Words in captions", "words", WORDS),
        Scale("Agreement of captioners", "agreement", TENTHS),
    )
    return {scale.key: scale for scale in found}


@dataclass
class Glance:
    """Sums and counts that grow with each line."""

    layout: Layout
    videos: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    languages: Counter[str] = field(default_factory=Counter)
    makers: Counter[tuple[str, ...]] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)  # of each captioner's captions
    without: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    rejected: list[list[str]] = field(default_factory=list)
    scales: dict[str, Scale] = field(default_factory=_scales)
    _bytes: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def add(self, entry: Entry) -> Entry:
        """Count a line; returns it."""
        meta = entry["meta"]
        self.videos += 1
        self.seconds += meta.get("duration") or 0.0
        spoken = videos.num_words(meta.get("transcript"))
        self.totals["files"] += len(meta.get("sources") or ()) or 1
        self.totals["frames"] += len(meta.get("frame_times") or ())
        self.totals["spoken"] += spoken
        self.totals["transcribed"] += spoken > 0
        untagged = is_tags(meta) and meta.get("caption") == NO_TAG
        captioned = bool(meta.get("caption")) and not untagged
        self.totals["captioned"] += captioned
        self.totals["tagged"] += captioned and is_tags(meta)
        if untagged:
            self.without["caption", NO_TAG] += 1
        self.totals["damaged"] += meta.get("damaged") is not None
        self.totals["bytes"] += self._size(entry["id"])
        if meta.get("language"):
            self.languages[meta["language"]] += 1
        for kind in ("caption", "transcript"):
            if not meta.get(kind) and meta.get(f"no_{kind}"):
                self.without[kind, meta[f"no_{kind}"]] += 1
        column = videos.columns([entry])
        for key, scale in self.scales.items():
            scale.add(column[key][0])
        self._credit(meta)
        return entry

    def _credit(self, meta: dict[str, Any]) -> None:
        """Note who captioned and transcribed a video, by which revision and prompt."""
        for one in videos.captions(meta):
            made = one.captioner, one.model or "", one.revision or "", one.prompt or ""
            self.makers["captions", *made] += 1
            self.words[one.captioner] += videos.num_words(one.text)
            self.totals[f"selected {one.captioner}"] += one.selected
        if meta.get("transcriber") or meta.get("transcriber_model"):
            by = (meta.get(f"transcriber{end}") or "" for end in ("", "_model", "_revision"))
            self.makers["transcripts", *by, ""] += 1

    def _size(self, video: str) -> int:
        """Return the bytes of a video's file as it was indexed; 0 where nothing says."""
        begins = video[:2]
        if begins not in self._bytes:
            try:
                self._bytes[begins] = dict(read_json(self.layout.seen(begins), dict))
            except (OSError, Broken):
                self._bytes[begins] = {}
        return self._bytes[begins].get(video, [0])[0]

    def reject(self, entries: Iterable[dict[str, Any]], limit: int) -> None:
        """Count the rejected videos by step and reason, and keep the first of them by name."""
        rows = []
        for entry in entries:
            step, reason = str(entry.get("step") or ""), str(entry.get("reason") or "")
            self.reasons[step, reason] += 1
            rows.append([str(entry.get("source_path") or entry.get("id")), step, reason])
        self.rejected = nsmallest(limit, rows)

    def told(self) -> dict[str, Any]:
        """Return all of it as the page shows it."""
        scales = {key: scale.told() for key, scale in self.scales.items()}
        languages = [
            {"label": name, "count": count, "is": name}
            for name, count in self.languages.most_common(MOST)
        ]
        spoken = {"title": "Language spoken", "key": "language", "bars": languages}
        charts = [scales["seconds"], scales["side"], spoken, scales["words"], scales["agreement"]]
        captioners = {
            name: {"videos": made, "words": self.words[name] / made, "selected": chosen}
            for name in sorted(self.words)
            if (made := sum(n for key, n in self.makers.items() if key[:2] == ("captions", name)))
            for chosen in [self.totals[f"selected {name}"]]
        }
        return {
            "totals": dict(self.totals) | {"videos": self.videos, "seconds": self.seconds},
            "charts": charts,
            "languages": len(self.languages),
            "captioners": captioners,
            "without": [[*what, count] for what, count in self.without.most_common(MOST)],
            "reasons": [[*what, count] for what, count in self.reasons.most_common(MOST)],
            "kinds_of_reasons": len(self.reasons),
            "rejected": self.rejected,
            "num_rejected": self.reasons.total(),
        }
