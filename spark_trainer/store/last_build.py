"""What the manifest that is there was built from: the files of then, and the steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from spark_trainer import steps
from spark_trainer.data.files import Broken, read_json
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.steps import manifest


@dataclass(frozen=True)
class LastBuild:
    """The last whole build of a store.

    Attributes:
        sources: hash -> names of the files with this content.
        steps: those that the manifest read.
    """

    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    steps: Sequence[str] = ()

    @classmethod
    def find(cls, graph: VideoGraph) -> Self | None:
        """Find it by the manifest's marker; None where no manifest is whole.

        The marker is named by the state of the video folders and by the fingerprint of all steps,
        and there is but one: of the states and the settings that are kept, it tells which.
        """
        layout = graph.layout
        named = {path.stem for path in layout.marker_folder("join").glob("*.json")}
        listed = layout.settings(manifest.NAME, "*")
        for settings in listed.parent.glob(listed.name):
            fingerprint = settings.stem.rpartition(".")[2]
            for index in layout.index("*").parent.glob("*.json"):
                if manifest.identity(index.stem, fingerprint) in named:
                    return cls._read(index, settings)
        return None

    @classmethod
    def _read(cls, index: Path, settings: Path) -> Self | None:
        try:
            return cls(read_json(index, dict), read_json(settings, dict)["settings"]["steps"])
        except (Broken, FileNotFoundError, KeyError, TypeError):
            return None

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

    def switched_off(self, graph: VideoGraph) -> list[str]:
        """Name the steps that the manifest read, and reads no more."""
        return [name for name in self.steps if name not in steps.reported(graph.config)]
