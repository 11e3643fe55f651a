"""What sets one run apart from another: parameters, results, code, and the data of each."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spark_trainer.data import manifest
from spark_trainer.data.files import canonical_json, digest
from spark_trainer.runs.record import FoundRun, Values, some
from spark_trainer.runs.table import printable, spelled

Changes = dict[str, tuple[Any, Any]]  # dotted key -> its value in A and in B


@dataclass
class Videos:
    """What differs between two manifests; keys are videos' hashes, texts the paths they had."""

    only_a: dict[str, str] = field(default_factory=dict)
    only_b: dict[str, str] = field(default_factory=dict)
    captions: dict[str, tuple[str, str | None, str | None]] = field(default_factory=dict)
    otherwise: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """What sets run B apart from run A."""

    a: FoundRun
    b: FoundRun
    parameters: Changes
    results: Changes
    origin: Changes
    videos: Videos

    def json(self) -> str:
        """Return the whole comparison on one line; nothing is cut or only counted."""
        return canonical_json(
            {
                "a": str(self.a.folder),
                "b": str(self.b.folder),
                "parameters": self.parameters,
                "results": self.results,
                "origin": self.origin,
                "manifest_sha256": [self.a.manifest_sha256, self.b.manifest_sha256],
                "videos": asdict(self.videos),
            }
        )

    def text(self) -> str:
        """Return the comparison for people, a section for each kind of difference."""
        sections = {
            "parameters": _listed(self.parameters),
            "results": _listed(self.results),
            "code, packages, hardware": _listed(self.origin),
            "data": self._data(),
        }
        lines = [f"{self.a.name} → {self.b.name}"]
        for heading, found in sections.items():
            lines += ["", heading, *(f"  {line}" for line in found or ["the same"])]
        return "\n".join(lines)

    def _data(self) -> list[str]:
        a, b, videos = self.a, self.b, self.videos
        if a.manifest_sha256 == b.manifest_sha256:
            return []
        captions = videos.captions.values()
        said = (f"{path}: {spelled(old)} → {spelled(new)}" for path, old, new in captions)
        return [
            f"manifest  {a.manifest_sha256[:8]} → {b.manifest_sha256[:8]}",
            f"videos    {a.videos} → {b.videos}",
            *_named(f"only in {a.name}", videos.only_a.values()),
            *_named(f"only in {b.name}", videos.only_b.values()),
            *_named("with another caption", said),
            *_named("the same caption, other frames, audio or facts", videos.otherwise.values()),
        ]


def difference(a: FoundRun, b: FoundRun) -> Difference:
    """Compare two runs; their manifests are read only where the digests differ.

    Raises:
        OSError, ValueError: a manifest that must be read is missing or damaged.
    """
    same = a.manifest_sha256 == b.manifest_sha256
    return Difference(
        a,
        b,
        changes(a.parameters, b.parameters),
        changes(a.results, b.results),
        changes(a.origin, b.origin),
        Videos() if same else _videos(a.folder.manifest, b.folder.manifest),
    )


def changes(a: Values, b: Values) -> Changes:
    """Return the keys with different values; None where a run does not have the key."""
    keys = dict.fromkeys([*a, *b])
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def _videos(a: Path, b: Path) -> Videos:
    """Compare two manifests entry by entry; of A only paths, captions and digests are kept."""
    videos = Videos()
    before = {entry["id"]: (*_told(entry), digest(entry)) for entry in manifest.read(a)}
    for entry in manifest.read(b):
        video, (path, caption) = entry["id"], _told(entry)
        if video not in before:
            videos.only_b[video] = path
            continue
        _, old, whole = before.pop(video)
        if caption != old:
            videos.captions[video] = (path, old, caption)
        elif digest(entry) != whole:
            videos.otherwise[video] = path
    videos.only_a = {video: path for video, (path, _, _) in before.items()}
    return videos


def _told(entry: manifest.Entry) -> tuple[str, str | None]:
    """Describe a video by where it was found, or its hash, and by its caption."""
    meta = entry["meta"]
    return meta.get("source_path") or entry["id"][:12], meta.get("caption")


def _listed(found: Changes) -> list[str]:
    width = max(map(len, found), default=0)
    pairs = {key: f"{spelled(old)} → {spelled(new)}" for key, (old, new) in found.items()}
    return [f"{key.ljust(width)}  {pair}" for key, pair in pairs.items()]


def _named(heading: str, things: Iterable[str]) -> list[str]:
    """Yield a heading with the count, then the first few; nothing where there are none."""
    every = [printable(thing) for thing in things]
    return [f"{heading}: {len(every)}", *(f"  {line}" for line in some(every))] if every else []
