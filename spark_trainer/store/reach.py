"""What reaches into a store: its configurations, its manifest, and the runs that are known."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spark_trainer import steps
from spark_trainer.data import encoded, manifest
from spark_trainer.data.files import Broken, file_digest, read_json
from spark_trainer.data.layout import Layout, Video
from spark_trainer.graph.runs import RunGraph
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun, RunSpec
from spark_trainer.steps import manifest as made


@dataclass(frozen=True)
class Reach:
    """What reaches into a store.

    Attributes:
        graphs: one for each configuration of the store.
        runs: every run's folder that is known.
        built: ask as if all that the configurations ask for were built, the manifest as well.
    """

    graphs: Sequence[VideoGraph]
    runs: Sequence[RunFolder]
    built: bool = False

    @property
    def layout(self) -> Layout:
        """Return the store."""
        return self.graphs[0].layout

    @cached_property
    def listed(self) -> dict[str, Video]:
        """Return hash -> video, of those that the configurations find."""
        return {name: one for graph in self.graphs for name, one in graph.index.videos.items()}

    @cached_property
    def kept(self) -> set[str]:
        """Return the hashes of videos that only a manifest or a run still names."""
        return self._named[0] - self.listed.keys()

    @property
    def files(self) -> set[str]:
        """Return the files and folders that a manifest or a run names, below the store's root."""
        return self._named[1]

    @cached_property
    def _named(self) -> tuple[set[str], set[str]]:
        """Read the manifests: the hashes of their videos, and what they name of each."""
        lists = [*([] if self.built else [self.layout.manifest]), *(r.manifest for r in self.runs)]
        videos, files = set[str](), set[str | None]()
        for entry in (e for path in lists if path.is_file() for e in manifest.read(path)):
            videos.add(entry["id"])
            files |= {entry.get("frames_dir"), entry.get("audio")}
            files.add((entry["meta"].get("pose") or {}).get("dir"))
        return videos, {name for name in files if name}

    @cached_property
    def _folders(self) -> set[str]:
        return {video.folder for video in self.listed.values()}

    def has_folder(self, folder: Path) -> bool:
        """Tell whether a folder that is named after a hash is that of a video which is reached."""
        name = folder.relative_to(self.layout.root).as_posix()
        return name in self._folders or folder.name in self.kept

    @cached_property
    def manifests(self) -> set[str]:
        """Return the SHA-256 of the store's manifest, and of those of runs and the last report."""
        here = self.layout.manifest
        found = {file_digest(here)} if here.is_file() else set()
        with contextlib.suppress(FileNotFoundError, Broken):
            shown = read_json(self.layout.last_report, dict).values()
            found |= {str(one["manifest"]) for one in shown if one}
        for run in self.runs:
            if run.lineage.is_file():
                found.add(str(read_json(run.lineage, dict).get("manifest_sha256")))
        return found

    @cached_property
    def fingerprints(self) -> dict[str, set[str]]:
        """Return step -> what names the results that the configurations ask for.

        The manifest is among them; steps that are switched off are not.
        """
        found: dict[str, set[str]] = {}
        for graph in self.graphs:
            for step in (*steps.enabled(graph.config), made.NAME):
                found.setdefault(step, set()).add(graph.fingerprints[step])
        return found

    @cached_property
    def specs(self) -> list[RunSpec]:
        """List the runs that the configurations ask for."""
        return [spec for graph in self.graphs for spec in RunGraph(graph).specs.values()]

    @cached_property
    def launched(self) -> list[LaunchedRun]:
        """List the runs that were launched, as far as this version can read them."""
        found = []
        for run in self.runs:
            try:
                found.append(LaunchedRun.read(run))
            except (OSError, ValueError, KeyError):
                continue
        return found

    @cached_property
    def encoders(self) -> dict[Path, set[str]]:
        """Return the folder of some encoders -> what names the clips that runs take from it."""
        found: dict[Path, set[str]] = {}
        for spec in self.specs:
            found.setdefault(spec.encoded.absolute(), set()).add(spec.encode_fingerprint)
        for run in self.launched:
            taken = encoded.fingerprint(
                run.settings, run.step_fingerprints, run.origin.get("references")
            )
            found.setdefault(run.encoded.absolute(), set()).add(taken)
        return found
