"""What one manifest says otherwise than another, video by video."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spark_trainer.config import STEP_SECTIONS
from spark_trainer.data import manifest, meta
from spark_trainer.data.corrections import HAND
from spark_trainer.data.files import canonical_json, digest, file_digest
from spark_trainer.data.manifest import Entry

NAME, PATHS = "name", "paths"  # what changes beside what the steps say
# Key of `meta` -> the step that says it, the first of several.
SAID_BY = (
    dict.fromkeys(meta.SOURCES, NAME)
    | dict.fromkeys(meta.BY_HAND, HAND)
    | {key: step for step, section in reversed(STEP_SECTIONS.items()) for key in section.MANIFEST}
)
DIGITS = 12


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


def difference(a: Path, b: Path) -> Difference:
    """Compare two manifests; of a line a digest is held for each step.

    Args:
        a: the earlier one.
        b: the later one.

    Raises:
        Broken: one holds lines that are no entries.
        OSError: one can't be read.
    """
    found = Difference(file_digest(a), file_digest(b))
    before, after = _read(a), _read(b)
    found.added = [line.name for video, line in after.items() if video not in before]
    found.removed = [line.name for video, line in before.items() if video not in after]
    for video, line in after.items():
        old = before.get(video, line).said
        steps = [step for step in {*old, *line.said} if old.get(step) != line.said.get(step)]
        found.same += video in before and not steps
        for step in steps:
            found.changed.setdefault(step, []).append(line.name)
    return found


def _read(path: Path) -> dict[str, _Line]:
    return {entry["id"]: _Line(_named(entry), _said(entry)) for entry in manifest.read(path)}


def _said(entry: Entry) -> dict[str, str]:
    said: dict[str, dict[str, Any]] = {PATHS: {key: entry.get(key) for key in manifest.PATHS}}
    for key, value in entry["meta"].items():
        if value is not None:
            said.setdefault(SAID_BY.get(key, key), {})[key] = value
    return {step: digest(facts)[:DIGITS] for step, facts in said.items()}


def _named(entry: Entry) -> str:
    return f"{entry['id'][:DIGITS]} {entry['meta'].get('source_path') or ''}".rstrip()
