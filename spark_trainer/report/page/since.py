"""What changed since the report before.

Of a report nothing is kept but the SHA-256 of its manifest and how far each run was; past manifests
are kept anyway. A report over the same data and runs takes no other's place, so that it shows the
same again.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from spark_trainer.data import manifest, past
from spark_trainer.data.files import Broken, read_json, write_json
from spark_trainer.data.layout import Layout
from spark_trainer.runs.record import FoundRun
from spark_trainer.store import manifests
from spark_trainer.store.manifests import Named

NAMED = 200  # videos of a kind of change


@dataclass(frozen=True)
class State:
    """What a report showed: of which manifest, how many videos, and run -> updates, finished."""

    manifest: str
    videos: int
    runs: dict[str, list[Any]]
    made: float = field(default=0.0, compare=False)


def told(
    layout: Layout, sha256: str, videos: int, runs: Sequence[FoundRun], kept: bool
) -> dict[str, Any] | None:
    """Return how this report differs from the one before; None where there was none.

    Args:
        layout: the store.
        sha256: of the manifest that is shown now.
        videos: how many it has.
        runs: those that are shown now.
        kept: whether the next report is compared with this one.
    """
    shown = {run.name: [run.results.get("steps", 0), run.finished] for run in runs}
    now = State(sha256, videos, shown, time.time())
    last, before = _read(layout)
    if last is not None and last != now:
        before = last
    if kept and layout.state.is_dir() and last != now:
        said = {"shown": asdict(now), "before": None if before is None else asdict(before)}
        write_json(layout.last_report, said)
    return None if before is None else _difference(layout, before, now)


def _read(layout: Layout) -> tuple[State | None, State | None]:
    """Return what the last report showed, and what the one before that differed from it."""
    try:
        said = read_json(layout.last_report, dict)
        return State(**said["shown"]), State(**said["before"]) if said["before"] else None
    except (FileNotFoundError, Broken, KeyError, TypeError):
        return None, None


def _difference(layout: Layout, before: State, now: State) -> dict[str, Any]:
    data: dict[str, Any] | None = {}
    if before.manifest != now.manifest:
        data = _data(layout, before, now)
    return {
        "made": before.made,
        "videos": [before.videos, now.videos],
        "data": data,
        "runs": {name: at for name, at in now.runs.items() if before.runs.get(name) != at},
        "runs_before": before.runs,
        "runs_gone": sorted(before.runs.keys() - now.runs.keys()),
    }


def _data(layout: Layout, before: State, now: State) -> dict[str, Any] | None:
    """Return kind of change -> number of videos and the first ones; None if `before` isn't kept."""
    kept = past.every(layout).get(before.manifest)
    if kept is None:
        return None
    new = Named(now.manifest, manifest.read(layout.manifest))
    try:
        found = manifests.difference(Named(kept.sha256, kept.entries(layout)), new)
    except Broken:
        return None
    kinds = {"added": found.added, "removed": found.removed} | found.changed
    return {kind: [len(videos), videos[:NAMED]] for kind, videos in kinds.items() if videos}
