"""What the manifest that is there was built from: the files of then, and the steps."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from spark_trainer import steps
from spark_trainer.config import Labels
from spark_trainer.data import corrected
from spark_trainer.data import manifest as entries
from spark_trainer.data.corrected import Note, Notes
from spark_trainer.data.corrections import KINDS
from spark_trainer.data.files import read_json
from spark_trainer.data.index import states
from spark_trainer.data.labels import kept
from spark_trainer.data.labels.given import Given
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.steps import manifest

# What a damaged list or manifest raises; a plan then tells less.
UNREADABLE = (ValueError, FileNotFoundError, KeyError, TypeError)


@dataclass(frozen=True)
class LastBuild:
    """The last whole build of a store.

    Attributes:
        sources: hash -> names of the files with this content.
        steps: those that the manifest read, if it is known.
        notes: hash -> what was corrected of the video by hand, if it is known.
        labels: what the user's files said of videos, if it is known.
        fingerprint: of the manifest.
        whole: whether no build began since that has not ended.
    """

    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    steps: Sequence[str] = ()
    notes: Mapping[str, Notes] | None = None
    labels: Given | None = None
    fingerprint: str = ""
    whole: bool = False

    @classmethod
    def find(cls, graph: VideoGraph) -> Self:
        """Find it by what the manifest's job noted; an empty state where there is no manifest.

        Where nothing is noted, or `gc` removed it, the manifest itself tells of the files.
        """
        layout = graph.layout
        with contextlib.suppress(*UNREADABLE):
            said = read_json(layout.built, dict)
            files, by_hand, labels = states(str(said["snapshot"]))
            sources = read_json(layout.index(files), dict)
            notes, given = corrected.load(layout, by_hand), kept.look_up(layout, labels)
            made = str(said.get("fingerprint"))
            marker = f"{manifest.identity(files, made, by_hand, labels)}.json"
            whole = (layout.marker_folder("join") / marker).exists()
            return cls(sources, [*said["steps"]], notes, given, made, whole)
        with contextlib.suppress(*UNREADABLE):
            return cls({one["id"]: one["meta"]["sources"] for one in entries.read(layout.manifest)})
        return cls()

    @property
    def files(self) -> dict[str, str]:
        """Return the name of each file -> the hash of its content."""
        return {name: video for video, names in self.sources.items() for name in names}

    def removed(self, graph: VideoGraph) -> dict[str, Sequence[str]]:
        """Return hash -> names, of the videos that are no longer found."""
        here = graph.index.sources
        return {video: names for video, names in self.sources.items() if video not in here}

    def renamed(self, graph: VideoGraph) -> dict[str, Sequence[str]]:
        """Return hash -> the names of now, of the videos whose files have others."""
        here = graph.index.sources
        both = self.sources.keys() & here.keys()
        return {v: here[v] for v in sorted(both) if list(self.sources[v]) != list(here[v])}

    def edited(self, graph: VideoGraph) -> dict[str, dict[str, Note | None]]:
        """Return hash -> kind -> what was corrected by hand since; None of what was taken back."""
        found: dict[str, dict[str, Note | None]] = {}
        if self.notes is None:
            return found
        now = graph.index.notes
        for video in sorted((self.notes.keys() | now.keys()) & graph.index.sources.keys()):
            old, new = self.notes.get(video, {}), now.get(video, {})
            kinds = [kind for kind in KINDS if old.get(kind) != new.get(kind)]
            found |= {video: {kind: new.get(kind) for kind in kinds}} if kinds else {}
        return found

    def relabelled(self, graph: VideoGraph) -> dict[str, dict[str, str]]:
        """Return kind -> hash -> what became of the label since: added, changed or removed."""
        found: dict[str, dict[str, str]] = {}
        if self.labels is None:
            return found
        for kind in Labels.KINDS:
            old, new = (one.known.get(kind, {}) for one in (self.labels, graph.index.labels))
            here = (old.keys() | new.keys()) & graph.index.sources.keys()
            differing = {one: (old.get(one), new.get(one)) for one in sorted(here)}
            found[kind] = {
                video: "changed" if before and now else "added" if now else "removed"
                for video, (before, now) in differing.items()
                if before != now
            }
        return {kind: videos for kind, videos in found.items() if videos}

    def switched_off(self, graph: VideoGraph) -> list[str]:
        """Name the steps that the manifest read, and reads no more."""
        return [name for name in self.steps if name not in steps.reported(graph.config)]
