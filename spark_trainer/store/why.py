"""Why a result is due: what is new, or what its fingerprint was made of that is no longer so."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

from spark_trainer import steps
from spark_trainer.config import Section
from spark_trainer.data import corrected
from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.labels.given import CAPTIONED, changed, parsed
from spark_trainer.data.layout import Shard, Video
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.runs.difference import changes
from spark_trainer.runs.record import flat
from spark_trainer.runs.table import printable, spelled
from spark_trainer.steps import manifest, promises
from spark_trainer.steps.base import Step
from spark_trainer.steps.record import Record

CORRECTED, TAKEN_BACK, LABELS = "corrected", "taken back", "labels"
GUESSES = 500  # combinations of earlier fingerprints that are tried to explain one


@dataclass(frozen=True)
class Why:
    """Why videos are due.

    `kind` is one of `added`, `changed` (the file has other content), `first` (the step made
    nothing of them yet), `settings`, `corrected`, `taken back`, `labels`, `failed`, `gone`,
    `damaged`.
    `details` are the settings with their old and new values, what was corrected by hand and by
    whom, what became of a label, the reason of a failure, or the file that is gone.
    """

    kind: str
    details: tuple[str, ...] = ()

    def text(self, videos: str) -> str:
        """Say it in a line, given the videos' names."""
        if self.kind in (CORRECTED, TAKEN_BACK):
            what, *note = self.details
            return corrected.told(what, videos, note[0] if note else None)
        told = ", ".join(self.details)
        return {
            "added": f"{videos} added",
            "changed": f"{videos} changed",
            "first": "not made yet",
            "settings": told,
            "labels": f"label of {videos} {told}",
            "failed": f"failed, and is tried again: {told}",
            "gone": f"{told} is gone",
            "damaged": f"{told} is damaged",
        }[self.kind]


@dataclass(frozen=True)
class Reasons:
    """What is due of a graph's videos, and why, as the store's records tell.

    Attributes:
        graph: the videos, the steps, and the fingerprints that are wanted.
        untrue: markers that the next build takes back before it plans.
        built: the names that the files had in the last build -> the hashes of their videos.
    """

    graph: VideoGraph
    untrue: frozenset[Path] = frozenset()
    built: dict[str, str] = field(default_factory=dict)
    _said: dict[tuple[str, str, int], tuple[str, ...]] = field(default_factory=dict, init=False)

    def due(self, step: str, shard: Shard) -> dict[Video, Why]:
        """Return the videos of which a step's job will make something, in the order of the shard.

        The runner asks the same question of each: whether its record is the wanted one, no
        failure, and all its files are there. A marker of other settings over the same videos
        answers for all of them: it stands only as long as every record is of those settings. There
        is none of a single video, which is named by all of its bits.
        """
        made_by = steps.load(step)
        alone = shard.bits == shard.videos[0].bits
        for earlier in [] if alone else self._earlier(step):
            marker = self.graph.index.marker(step, earlier, shard)
            if marker.exists() and marker not in self.untrue:
                record = made_by.RECORD.find(made_by.path(self.graph.layout, shard.videos[0]))
                version = record.version if record else made_by.VERSION
                return dict.fromkeys(shard.videos, self._other(step, earlier, version))
        found = {video: self._of(made_by, video) for video in shard.videos}
        return {video: why for video, why in found.items() if why is not None}

    def _of(self, step: Step[Any, Any], video: Video) -> Why | None:
        """Say why a step is due of a video, from one look: a build may be at work beside."""
        layout, wanted = self.graph.layout, self.graph.fingerprints[step.name]
        path = step.path(layout, video)
        record: Record | None = step.RECORD.find(path)
        named = promises.promised(step, layout, video, record)
        if record is None and not path.exists():
            return self._without(step, video)
        if record is None or named is None:
            return Why("damaged", (path.name,))
        if record.video != video.hash:
            return Why("changed")
        if record.fingerprint != wanted:
            return self._other(step.name, record.fingerprint, record.version)
        if record.correction != video.correction:
            return self._corrected(step, video)
        if record.labels != video.labels:
            return self._labelled(record, video)
        if not record.settled:
            return Why("failed", (printable(record.reason or ""),))
        gone = next((file for file in named if not file.exists()), None)
        home = layout.folder(video)
        return Why("gone", (gone.relative_to(home).parts[0],)) if gone else None

    def _without(self, step: Step[Any, Any], video: Video) -> Why:
        """Say why there is no record: it was taken back, or the video is new, or the step is.

        The last build may have had the same file in another folder: see `deterministic_layout`.
        """
        before = {self.built.get(file) for file in self.graph.index.sources[video.hash]}
        if self.graph.layout.folder(video).is_dir() or video.hash in before:
            withdrawn = {path.parent for path in self.untrue}
            gone = self.graph.layout.marker_folder(step.name) in withdrawn
            return Why("gone", (step.name,)) if gone else Why("first")
        return Why("changed" if before != {None} else "added")

    def _labelled(self, record: Record, video: Video) -> Why:
        """Say what became of a label, or that models caption what is labelled too."""
        if self.graph.config.caption.also_labelled and CAPTIONED in parsed(record.labels):
            return Why("settings", (changed_to("caption.also_labelled", False, True),))
        return Why(LABELS, (changed(record.labels, video.labels),))

    def _corrected(self, step: Step[Any, Any], video: Video) -> Why:
        """Say what that a step reads was corrected by hand, or was and is no more."""
        said, kinds = self.graph.index.notes.get(video.hash, {}), manifest.corrected(step.name)
        for kind in kinds:
            if kind in said:
                return Why(CORRECTED, (kind, str(said[kind])))
        return Why(TAKEN_BACK, kinds[:1])

    def _other(self, step: str, fingerprint: str, version: int) -> Why:
        key = (step, fingerprint, version)
        if key not in self._said:
            self._said[key] = tuple(dict.fromkeys(self._differing(step, fingerprint, [version])))
        return Why("settings", self._said[key] or (f"{step}: other settings, not known any more",))

    def _differing(self, step: str, fingerprint: str, versions: Sequence[int]) -> Iterator[str]:
        """Yield what of an earlier fingerprint is no longer so, first of the step's own settings.

        Args:
            step: whose.
            fingerprint: what its results were named by.
            versions: those that the step may have had, the newest first.
        """
        made_by, chosen = steps.load(step), steps.section(self.graph.config, step)
        before = self._settings(step, fingerprint)
        if before is None:
            return
        own = changes(flat(before), flat(chosen.results()))
        for key, (old, new) in own.items():
            yield changed_to(f"{made_by.word}.{key}", old, new)
        identity = made_by.identity(chosen, self.graph.layout.model_digests)
        read = steps.upstream(self.graph.config, step)
        combined = islice(product(*map(self._known, read)), GUESSES)
        for version, upstream in product(versions, combined):
            if steps.digested(step, version, before, identity, upstream) == fingerprint:
                yield from _raised(made_by, version)
                for name, earlier in zip(read, upstream, strict=True):
                    if earlier != self.graph.fingerprints[name]:
                        newest = steps.load(name).VERSION
                        yield from self._differing(name, earlier, range(newest, 0, -1))
                return
        raised = [*_raised(made_by, versions[0])]
        yield from raised
        if not own and not raised:
            yield f"{step}: another model"

    def _known(self, step: str) -> list[str]:
        """List the fingerprints that a step may have had, the wanted one first."""
        return [self.graph.fingerprints[step], *self._earlier(step)]

    def _earlier(self, step: str) -> list[str]:
        """List the other fingerprints of a step whose settings are known."""
        wanted = self.graph.fingerprints[step]
        listed = self.graph.layout.settings(step, "*")
        found = (path.stem.rpartition(".")[2] for path in listed.parent.glob(listed.name))
        return sorted({*found} - {wanted})

    def _settings(self, step: str, fingerprint: str) -> dict[str, Any] | None:
        """Return the settings behind a fingerprint that decide results; None where unknown."""
        path = self.graph.layout.settings(step, fingerprint)
        try:
            said = dict(read_json(path, dict)["settings"])
        except (Broken, FileNotFoundError, KeyError):
            return None
        kind = steps.load(step).SETTINGS
        try:
            settings: Section = kind(**said)
            return settings.results()
        except ValueError:  # of another version of the section
            decisive = steps.section(self.graph.config, step).results()
            return {k: v for k, v in said.items() if k in decisive or k not in kind.model_fields}


def _raised(step: Step[Any, Any], version: int) -> Iterator[str]:
    if version != step.VERSION:
        yield f"{step.name}: version {version} → {step.VERSION} of its results"


def changed_to(key: str, old: Any, new: Any) -> str:
    """Say how a setting changed."""
    values = ("null" if value is None else spelled(value) for value in (old, new))
    return f"{key}: {' → '.join(values)}"
