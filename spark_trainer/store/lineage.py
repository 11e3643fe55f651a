"""Where a run comes from and what came of it; what derives from a video, and who saw it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spark_trainer import steps
from spark_trainer.config import Split
from spark_trainer.data import corrected, forgotten, jsonl, manifest, past
from spark_trainer.data.corrections import Correction
from spark_trainer.data.dataset import of_entry
from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.layout import Layout
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.record import described
from spark_trainer.steps.record import CHECKSUM
from spark_trainer.store import clips
from spark_trainer.store.clips import Clip

# How one run comes from another; the words that follow the later run's name.
CONTINUES, BEGINS, HEARD = "goes on from", "begins with the weights of", "has transcripts by"
DIGITS = 12  # of the SHA-256 of a manifest
WIDTH = 15  # characters of what stands before a line's facts
LONGEST = 200  # characters of a fact
# Facts of a record about itself.
NAMING = ("step", "version", "video", "correction", "labels", "content", CHECKSUM)


@dataclass(frozen=True)
class Link:
    """That a run comes from another: `later` `how` `earlier`, both names of run folders."""

    later: str
    how: str
    earlier: str

    def __str__(self) -> str:
        return f"{self.later} {self.how} {self.earlier}"

    @property
    def ends(self) -> tuple[str, str]:
        """Return the names of both runs."""
        return self.later, self.earlier


class Runs:
    """Every run that is known, and how they come from each other."""

    def __init__(self, folders: Iterable[RunFolder]) -> None:
        self.folders = {run.name: run for run in folders}

    @cached_property
    def links(self) -> list[Link]:
        """List how runs come from each other; those that are gone are named too."""
        return [link for run in self.folders.values() for link in self._origins(run)]

    def _origins(self, run: RunFolder) -> Iterator[Link]:
        said = described(run)
        if before := said.get("continued_from"):
            yield Link(run.name, CONTINUES, before)
        if before := said.get("base_run"):
            yield Link(run.name, BEGINS, before)
        heard = {one.get("transcriber_model") for one in said["videos"].values()}
        for model in sorted(filter(None, heard)):
            for name in set(Path(model).parts) & self.folders.keys():
                yield Link(run.name, HEARD, name)

    def before(self, name: str) -> list[Link]:
        """List how a run came to be, the nearest first, at any distance."""
        return _walk(name, self.links, lambda link: (link.later, link.earlier))

    def after(self, name: str) -> list[Link]:
        """List what came of a run, the nearest first, at any distance."""
        return _walk(name, self.links, lambda link: (link.earlier, link.later))


def _walk(name: str, links: Iterable[Link], ends: Any) -> list[Link]:
    """Follow links from a run; `ends` gives the end that a link is found by, and the other."""
    every, found, at = list(links), list[Link](), [name]
    while at:
        here = at.pop(0)
        for link in every:
            if ends(link)[0] == here and link not in found:
                found.append(link)
                at.append(ends(link)[1])
    return found


def of_run(run: RunFolder, runs: Runs, layout: Layout) -> dict[str, Any]:
    """Tell everything that a run is made of, and what came of it.

    Args:
        run: the run.
        runs: all that may be its relatives.
        layout: the store that keeps the settings of the steps behind its data.
    """
    said = described(run)
    launched = read_json(run.run_file, dict)
    return {
        "run": run.name,
        "folder": str(run),
        "finished": run.summary.exists(),
        "before": [asdict(link) for link in runs.before(run.name)],
        "after": [asdict(link) for link in runs.after(run.name)],
        "manifest_sha256": said["manifest_sha256"],
        "videos": dict(Counter(splits(run, said["videos"]).values())),
        "made_by": _steps(layout, launched.get("versions") or {}),
        "captions": _counted(said, "captioner", "captioner_model"),
        "transcripts": _counted(said, "transcriber_model"),
        "corrected": corrected.counted(said["videos"].values()),
        **{key: said.get(key) for key in ("spark_trainer", "code", "python", "packages")},
        "code_diff": str(run.code_diff) if run.code_diff.exists() else None,
        **{key: said.get(key) for key in ("machine", "nodes", "processes", "device", "gpus")},
    }


def splits(run: RunFolder, videos: Mapping[str, Any]) -> dict[str, str]:
    """Return hash -> the split that a run has a video in, or what became of it since."""
    found = {one: "forgotten" if "forgotten" in said else "unknown" for one, said in videos.items()}
    chosen = _split(run)
    if run.manifest.is_file():
        found |= {entry["id"]: of_entry(entry, chosen) for entry in manifest.read(run.manifest)}
    return found


def _split(run: RunFolder) -> Split:
    """Return how a run divides videos; its other settings may be those of another version."""
    said = read_json(run.run_file, dict)["settings"]
    return Split(**said["split"]) if "split" in said else Split()


def _counted(said: Mapping[str, Any], *keys: str) -> dict[str, int]:
    """Count the videos by who made something of them."""
    made = (filter(None, (one.get(key) for key in keys)) for one in said["videos"].values())
    return dict(Counter(name for name in map(", ".join, made) if name))


def _steps(layout: Layout, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Return step -> its settings, as far as the store still has them, and their fingerprint."""
    found = {}
    for step, fingerprint in fingerprints.items():
        try:
            kept = read_json(layout.settings(step, fingerprint), dict)["settings"]
        except (OSError, Broken, KeyError):
            kept = None
        found[step] = {"fingerprint": fingerprint, "settings": kept}
    return found


def of_clip(
    clip: Clip, runs: Runs, layout: Layout, correction: Correction | None = None
) -> dict[str, Any]:
    """Tell everything that derives from a video, and every run that saw it.

    Args:
        clip: the video.
        runs: all that may have seen it.
        layout: the store.
        correction: what was said of it by hand.
    """
    gone = forgotten.every(layout).get(clip.hash)
    saw = {run.name: split(run, clip.hash) for run in _seen(runs, clip.hash)}
    heirs = {link.later: str(link) for name in saw for link in runs.after(name)}
    return {
        "video": clip.hash,
        "files": [str(path) for path in clip.files],
        "forgotten": None if gone is None else asdict(gone),
        "manifest": _listed(layout, clip.hash),
        "corrected": correction.told() if correction else {},
        "past_manifests": _past(layout, clip.hash),
        "records": _records(layout, clip.hash),
        "encoded": sum(
            1 for f in clips.encoded(layout, clip.hash) for _ in f.glob("*.safetensors")
        ),
        "runs": saw,
        "through": {name: how for name, how in heirs.items() if name not in saw},
    }


def _seen(runs: Runs, video: str) -> list[RunFolder]:
    return clips.seen_by(runs.folders.values(), video)


def split(run: RunFolder, video: str) -> str:
    """Return the split that a run has, or had, a video in."""
    chosen = _split(run)
    for line in clips.lines(run.manifest, video):
        return str(of_entry(jsonl.parsed(line), chosen))
    return str(described(run)["videos"][video].get("split", "unknown"))


def _listed(layout: Layout, video: str) -> str:
    """Tell what the manifest says of a video."""
    if clips.lines(layout.manifest, video):
        return "in it"
    for line in clips.lines(layout.rejected, video):
        said = jsonl.parsed(line)
        return f"rejected by {said.get('step')}: {said.get('reason')}"
    return "not in it"


def _past(layout: Layout, video: str) -> list[str]:
    """List the SHA-256 of the past manifests that have a video."""
    holding = {path.stem for path in past.holding(layout, video)}
    return [name for name, one in past.every(layout).items() if not holding.isdisjoint(one.pieces)]


def _records(layout: Layout, video: str) -> dict[str, Any]:
    """Return step -> what it recorded of a video."""
    found = {}
    for folder in clips.folders(layout, video):
        for path in sorted(folder.rglob("*.json")):
            if clips.owner(path) == video:
                said = read_json(path, dict)
                found[str(said["step"])] = said
    order = {step: number for number, step in enumerate(steps.STEPS)}
    ranked = sorted(found, key=lambda name: (order.get(name.partition("/")[0], len(order)), name))
    return {name: found[name] for name in ranked}


def text(said: Mapping[str, Any]) -> str:
    """Return what `of_run` or `of_clip` told, for people."""
    rows = _run_rows(said) if "run" in said else _clip_rows(said)
    return "\n".join(f"{name:<{WIDTH - 1}} {fact}".rstrip() for name, fact in rows)


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
