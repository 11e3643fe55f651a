"""Where a run comes from and what came of it; what derives from a video, and who saw it."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spark_trainer import steps
from spark_trainer.config import Split
from spark_trainer.config.transcript import TRAINED
from spark_trainer.data import corrected, forgotten, jsonl, manifest, past
from spark_trainer.data.corrections import Correction
from spark_trainer.data.dataset import of_entry
from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.layout import Layout
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.record import described
from spark_trainer.steps.base import word
from spark_trainer.steps.record import CHECKSUM
from spark_trainer.store import clips
from spark_trainer.store.clips import Clip

# How one run comes from another; the words that follow the later run's name.
BEGUN_FROM = {"continued_from": "goes on from", "base_run": "begins with the weights of"}
# Key of a video -> how a run comes from the one whose model that is.
LEARNS_FROM = {"transcriber_model": "has transcripts by", "captioner_model": "has captions by"}
NAME = re.compile(r".+-[0-9a-f]{8}")  # of a run folder
# Facts of a line about who made its texts, and what stands before each.
CAPTIONED = {
    "captioner": "",
    "captioner_model": "",
    "captioner_revision": "revision ",
    "caption_prompt": "prompt ",
}
TRANSCRIBED = {"transcriber": "", "transcriber_model": "", "transcriber_revision": "revision "}
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
        found = sorted(folders, key=lambda run: (launched_as(run) != run.name, str(run)))
        self._called = {run: launched_as(run) for run in found}
        self._renamed = {run.name: name for run, name in self._called.items()}
        # Of several copies of a run the one that kept its name, or the first.
        self.folders = {name: run for run, name in reversed(self._called.items())}

    def called(self, run: RunFolder) -> str:
        """Return the name that a run was launched under, whatever its folder is called now."""
        return self._called.get(run) or launched_as(run)

    @cached_property
    def links(self) -> list[Link]:
        """List how runs come from each other; those that are gone are named too."""
        return [link for run in self.folders.values() for link in self._origins(run)]

    def _origins(self, run: RunFolder) -> Iterator[Link]:
        said, name = described(run), self.called(run)
        for key, how in BEGUN_FROM.items():
            if before := said.get(key):
                yield Link(name, how, self._renamed.get(before) or before)
        for key, how in LEARNS_FROM.items():
            models = {one.get(key) for one in said["videos"].values()}
            for model in sorted(filter(None, models)):
                if trained := self._of_model(Path(model.removeprefix(TRAINED))):
                    yield Link(name, how, trained)

    def _of_model(self, model: Path) -> str | None:
        """Return the run in whose folder a model lies, or lay."""
        for part, below in zip(model.parts, [*model.parts[1:], ""], strict=True):
            if part in self._renamed or (below == "final" and NAME.fullmatch(part)):
                return self._renamed.get(part, part)
        return None

    def before(self, name: str) -> list[Link]:
        """List how a run came to be, the nearest first, at any distance."""
        return _walk(name, self.links, lambda link: (link.later, link.earlier))

    def after(self, name: str) -> list[Link]:
        """List what came of a run, the nearest first, at any distance."""
        return _walk(name, self.links, lambda link: (link.earlier, link.later))


def launched_as(run: RunFolder) -> str:
    """Return the name of a run's folder as it was when the run was launched."""
    try:
        said = read_json(run.run_file, dict)
        return f"{said['name']}-{said['seal']}"
    except (OSError, Broken, KeyError):
        return run.name


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


def of_run(run: RunFolder, runs: Runs) -> dict[str, Any]:
    """Tell everything that a run is made of, and what came of it.

    Args:
        run: the run.
        runs: all that may be its relatives.
    """
    said, name = described(run), runs.called(run)
    texts = [one["meta"] for one in _entries(run)] or [*said["videos"].values()]
    return {
        "run": name,
        "folder": str(run),
        "finished": run.summary.exists(),
        "before": [asdict(link) for link in runs.before(name)],
        "after": [asdict(link) for link in runs.after(name)],
        "manifest_sha256": said["manifest_sha256"],
        "videos": dict(Counter(splits(run, said["videos"]).values())),
        "made_by": _in_order(said.get("made_by") or {}),
        "captions": _counted(texts, CAPTIONED),
        "transcripts": _counted(texts, TRANSCRIBED),
        "corrected": corrected.counted(said["videos"].values()),
        **{key: said.get(key) for key in ("spark_trainer", "code", "python", "packages")},
        "code_diff": str(run.code_diff) if run.code_diff.exists() else None,
        **{key: said.get(key) for key in ("machine", "nodes", "processes", "device", "gpus")},
    }


def splits(run: RunFolder, videos: Mapping[str, Any]) -> dict[str, str]:
    """Return hash -> the split that a run has a video in, or what became of it since."""
    found = {one: "forgotten" if "forgotten" in said else "unknown" for one, said in videos.items()}
    chosen = _split(run)
    return found | {entry["id"]: of_entry(entry, chosen) for entry in _entries(run)}


def _split(run: RunFolder) -> Split:
    """Return how a run divides videos; its other settings may be those of another version."""
    said = read_json(run.run_file, dict)["settings"]
    return Split(**said["split"]) if "split" in said else Split()


def _entries(run: RunFolder) -> Iterator[manifest.Entry]:
    return manifest.read(run.manifest) if run.manifest.is_file() else iter(())


def _counted(texts: Iterable[Mapping[str, Any]], keys: Mapping[str, str]) -> dict[str, int]:
    """Count the videos by who made something of them; `keys` has what stands before each fact."""
    made = (
        ", ".join(f"{before}{one[key]}" for key, before in keys.items() if one.get(key))
        for one in texts
    )
    return dict(Counter(filter(None, made)))


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
    saw = {runs.called(run): split(run, clip.hash) for run in _seen(runs, clip.hash)}
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
            if path.is_file() and clips.owner(path) == video:
                said = read_json(path, dict)
                found[str(said.get("step"))] = said
    return _in_order(found)


def _in_order(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told by step, in the order of the pipeline."""
    order = {step: number for number, step in enumerate(steps.STEPS)}
    ranked = sorted(found, key=lambda name: (order.get(word(name), len(order)), name))
    return {name: found[name] for name in ranked}
