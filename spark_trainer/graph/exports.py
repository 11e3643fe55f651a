"""The graph from the manifest to data sets for other tools."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spark_trainer import exports
from spark_trainer.config import Config, Export
from spark_trainer.data.files import digest, write_json
from spark_trainer.exports.folder import Note
from spark_trainer.graph.videos import VideoGraph

NAME = "export"


@dataclass(frozen=True)
class ExportGraph:
    """Which exports are configured, and the marker that says that one is made."""

    videos: VideoGraph

    @cached_property
    def settings(self) -> dict[str, Export]:
        """Return name -> settings, checked.

        Raises:
            ConfigError: one can't be; the message names the key.
        """
        return configured(self.videos.config)

    @property
    def markers(self) -> list[Path]:
        """Name the marker of each export."""
        return [self.marker(name) for name in self.settings]

    def marker(self, name: str) -> Path:
        """Name the marker of an export of the manifest that is built."""
        chosen = self.settings[name]
        named = exports.identity(chosen, place(chosen, name))
        fingerprint = digest([self.videos.manifest_marker.stem, named])[:16]
        return self.videos.layout.marker_folder(f"{NAME}/{name}") / f"{fingerprint}.json"

    def outdated(self, name: str) -> list[Path]:
        """Write a fresh file where an export that was made is not whole any more."""
        folder = place(self.settings[name], name)
        note = Note.find(folder)
        if not self.marker(name).exists() or (note is not None and note.whole(folder)):
            return []
        outdated = self.videos.layout.state / "outdated.json"
        # Of small files Snakemake compares the content, too: the same again would be nothing new.
        write_json(outdated, {NAME: name, "files": note and len(note.files)})
        return [outdated]


def configured(config: Config) -> dict[str, Export]:
    """Return name -> settings of each export, checked.

    Raises:
        ConfigError: one can't be; the message names the key.
    """
    return {name: exports.resolved(one, f"exports.{name}") for name, one in config.exports.items()}


def place(settings: Export, name: str) -> Path:
    """Return the folder of an export."""
    return Path(settings.output_dir) / name
