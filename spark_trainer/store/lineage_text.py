"""What `lineage` told, as lines for people."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from spark_trainer.data import forgotten
from spark_trainer.store.lineage import NAMING, Link
from spark_trainer.system.log import plain

DIGITS = 12  # of the SHA-256 of a manifest
WIDTH = 15  # characters of what stands before a line's facts
LONGEST = 200  # characters of a fact


def text(said: Mapping[str, Any]) -> str:
    """Return what `of_run` or `of_clip` told, for people."""
    rows = _run_rows(said) if "run" in said else _clip_rows(said)
    return "\n".join(plain(f"{name:<{WIDTH - 1}} {fact}").rstrip() for name, fact in rows)


def _run_rows(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "run", f"{said['folder']}, {'finished' if said['finished'] else 'not finished'}"
    yield from _listing("comes from", (str(Link(**link)) for link in said["before"]))
    yield from _listing("came of it", (str(Link(**link)) for link in said["after"]))
    counts = ", ".join(f"{count} {split}" for split, count in sorted(said["videos"].items()))
    yield "videos", f"{counts}; manifest {said['manifest_sha256'][:DIGITS]}"
    for kind in ("captions", "transcripts"):
        yield from _listing(kind, (f"{count} by {who}" for who, count in said[kind].items()))
    yield from _listing("corrected", (f"{n} {what}" for what, n in said["corrected"].items()))
    yield from _listing("steps", (_step(*item) for item in said["made_by"].items()))
    diff = f", with the changes in {said['code_diff']}" if said["code_diff"] else ""
    yield "code", f"SparkTrainer {said['spark_trainer']}, {said['code'] or 'no checkout'}{diff}"
    packages = ", ".join(f"{name} {version}" for name, version in (said["packages"] or {}).items())
    yield "packages", f"Python {said['python']}, {packages}"
    gpus = ", ".join(said["gpus"] or [])
    yield "hardware", f"{said['processes']} processes, {said['device']}{': ' if gpus else ''}{gpus}"


def _step(name: str, made: Mapping[str, Any]) -> str:
    chosen = made["settings"]
    if chosen is None:
        return f"{name} {made['fingerprint']}, whose settings this store doesn't have"
    shown = ", ".join(f"{k}: {v}" for k, v in chosen.items() if v not in (None, [], {}))
    return f"{name} {made['fingerprint']}: {shown}"


def _clip_rows(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "video", said["video"]
    yield from _listing("files", said["files"])
    if said["forgotten"]:
        yield "forgotten", str(forgotten.Tombstone(**said["forgotten"]))
    yield from _listing("corrected", (_edited(*item) for item in said["corrected"].items()))
    yield "manifest", said["manifest"]
    yield from _listing("past manifests", (one[:DIGITS] for one in said["past_manifests"]))
    for step, record in said["records"].items():
        yield step, _recorded(record)
    if said["encoded"]:
        yield "encoded", f"{said['encoded']} clips or windows of sound"
    yield from _listing("seen by", (f"{run} ({split})" for run, split in said["runs"].items()))
    yield from _listing("through them", said["through"].values())
    if not said["runs"]:
        yield "seen by", "no run"


def _edited(kind: str, one: Mapping[str, Any]) -> str:
    return f"{kind} by {one['author']} on {one['time']}: {one['text'][:LONGEST]}"


def _recorded(record: Mapping[str, Any]) -> str:
    """Return the facts of a record that fit on one line, those that name it aside."""
    shown = [
        f"{key}: {str(value)[:LONGEST]}"
        for key, value in record.items()
        if key not in NAMING and isinstance(value, str | int | float)
    ]
    return "; ".join(shown)


def _listing(name: str, facts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield a row for each fact; the first alone has the name."""
    for number, fact in enumerate(facts):
        yield "" if number else name, fact
