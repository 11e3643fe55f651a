"""Which manifest a user means, and what one says otherwise than another, video by video."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from spark_trainer.config import STEP_SECTIONS
from spark_trainer.data import manifest, meta, past
from spark_trainer.data.corrections import HAND
from spark_trainer.data.files import canonical_json, digest, file_digest
from spark_trainer.data.layout import Layout
from spark_trainer.data.manifest import Entry
from spark_trainer.data.past import Past
from spark_trainer.errors import UserError

NAME, PATHS = "name", "paths"  # what changes beside what the steps say
# Key of `meta` -> the step that says it, the first of several.
SAID_BY = (
    dict.fromkeys(meta.SOURCES, NAME)
    | dict.fromkeys(meta.BY_HAND, HAND)
    | {key: step for step, section in reversed(STEP_SECTIONS.items()) for key in section.MANIFEST}
)
DIGITS = 12
BEGINNING = re.compile(r"[0-9a-f]{6,64}")  # of a SHA-256, as a user gives it


@dataclass(frozen=True)
class Named:
    """A manifest by its SHA-256, and its entries, which can be read once."""

    sha256: str
    entries: Iterable[Entry]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            OSError: it can't be read.
        """
        return cls(file_digest(path), manifest.read(path))


def find(layout: Layout, wanted: str) -> Past | None:
    """Find the past manifest that is meant by a run folder's name, or the beginning of a SHA-256.

    Raises:
        UserError: several are.
    """
    kept = past.every(layout)
    found = [one for one in kept.values() if wanted in one.runs]
    if not found and BEGINNING.fullmatch(wanted):
        found = [one for name, one in kept.items() if name.startswith(wanted)]
    if len(found) > 1:
        listed = "".join(f"\n  {one.sha256}" for one in found)
        raise UserError(f"{wanted!r} names {len(found)} manifests; expected one of:{listed}")
    return found[0] if found else None


def table(kept: Iterable[Past]) -> str:
    """Return a line for each past manifest: its SHA-256, its videos, and who learnt from it."""
    return "\n".join(map(_row, kept))


def _row(one: Past) -> str:
    less = f", {one.forgotten} forgotten" if one.forgotten else ""
    by = f"; of {', '.join(one.runs)}" if one.runs else ""
    return f"{one.sha256[:DIGITS]}  {one.videos:,} videos{less}{by}"


@dataclass
class Difference:
    """How manifest `b` differs from `a`; `changed` has step -> the videos it says else of."""

    a: str
    b: str
    same: int = 0
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: dict[str, list[str]] = field(default_factory=dict)

    def json(self) -> str:
        """Return it as one line of JSON."""
        return canonical_json(vars(self))

    def text(self) -> str:
        """Return it for people: counts, and the first videos of each kind."""
        kinds = {"added": self.added, "removed": self.removed} | {
            f"other {step}": videos for step, videos in sorted(self.changed.items())
        }
        lines = [f"a {self.a[:DIGITS]}, b {self.b[:DIGITS]}: {self.same:,} videos are the same"]
        for kind, videos in kinds.items():
            if videos:
                lines.append(f"{kind}: {len(videos):,}")
                lines += [f"  {video}" for video in manifest.some(videos)]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Line:
    """What is kept of a line: what its video is called, and a digest of what each step says."""

    name: str
    said: dict[str, str]


def difference(a: Named, b: Named) -> Difference:
    """Compare two manifests; of a line a digest is held for each step.

    Args:
        a: the earlier one.
        b: the later one.

    Raises:
        Broken: one holds lines that are no entries, or a piece of it is gone.
        OSError: one can't be read.
    """
    found = Difference(a.sha256, b.sha256)
    before, after = _read(a.entries), _read(b.entries)
    found.added = [line.name for video, line in after.items() if video not in before]
    found.removed = [line.name for video, line in before.items() if video not in after]
    for video, line in after.items():
        old = before.get(video, line).said
        steps = [step for step in {*old, *line.said} if old.get(step) != line.said.get(step)]
        found.same += video in before and not steps
        for step in steps:
            found.changed.setdefault(step, []).append(line.name)
    return found


def _read(entries: Iterable[Entry]) -> dict[str, _Line]:
    return {entry["id"]: _Line(_named(entry), _said(entry)) for entry in entries}


def _said(entry: Entry) -> dict[str, str]:
    said: dict[str, dict[str, Any]] = {PATHS: {key: entry.get(key) for key in manifest.PATHS}}
    for key, value in entry["meta"].items():
        if value is not None:
            said.setdefault(SAID_BY.get(key, key), {})[key] = value
    return {step: digest(facts)[:DIGITS] for step, facts in said.items()}


def _named(entry: Entry) -> str:
    return f"{entry['id'][:DIGITS]} {entry['meta'].get('source_path') or ''}".rstrip()
