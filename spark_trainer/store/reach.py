"""What reaches into a store: its configurations, its manifest, and the runs that are known."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

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
        away: hashes of videos whose files can't be reached this time, as on a disk that is not
            mounted.
    """

    graphs: Sequence[VideoGraph]
    runs: Sequence[RunFolder]
    built: bool = False
    away: frozenset[str] = frozenset()

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
        """Return the hashes of videos that only a manifest or a run still names, or are away."""
        return {*self._entries, *self.away} - self.listed.keys()

    @cached_property
    def files(self) -> set[str]:
        """Return the files and folders that a manifest or a run names, below the store's root."""
        return set[str]().union(*self._entries.values())

    @cached_property
    def _entries(self) -> dict[str, set[str]]:
        """Return hash -> what manifests name of a video's files."""
        lists = [*([] if self.built else [self.layout.manifest]), *(r.manifest for r in self.runs)]
        found: dict[str, set[str]] = {}
        for entry in (entry for path in lists if path.is_file() for entry in manifest.read(path)):
            found.setdefault(str(entry["id"]), set()).update(manifest.files(entry))
        return found

    @cached_property
    def _folders(self) -> set[str]:
        here = {video.folder for video in self.listed.values()}
        return here | {PurePath(name).parent.as_posix() for name in self.files}

    def has_folder(self, folder: Path) -> bool:
        """Tell whether a folder of a video's results is that of a video which is reached."""
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
        return [run for run in self._launched.values() if isinstance(run, LaunchedRun)]

    @cached_property
    def _launched(self) -> dict[RunFolder, LaunchedRun | dict[str, Any]]:
        """Return runs as they were launched, or as JSON where another version wrote the settings.

        One whose file is damaged is left out.
        """
        found: dict[RunFolder, LaunchedRun | dict[str, Any]] = {}
        for run in self.runs:
            try:
                found[run] = LaunchedRun.read(run)
            except (Broken, OSError):
                continue
            except (ValueError, KeyError):  # of another version
                found[run] = dict(read_json(run.run_file, dict))
        return found

    @cached_property
    def step_fingerprints(self) -> list[Mapping[str, str]]:
        """List the fingerprints of the steps that made the data of runs, step -> fingerprint."""
        every = self._launched.values()
        told = (
            run.step_fingerprints if isinstance(run, LaunchedRun) else run.get("versions")
            for run in every
        )
        return [one for one in told if one]

    @cached_property
    def encoders(self) -> dict[Path, set[str] | None]:
        """Return the folder of some encoders -> what names the clips that runs take from it.

        None where a run is of another version, and may take anything.
        """
        found: dict[Path, set[str] | None] = {}

        def add(folder: Path, taken: str) -> None:
            known = found.setdefault(folder.absolute(), set())
            if known is not None:
                known.add(taken)

        for run in self._launched.values():
            if isinstance(run, dict) and "encoded" in run:
                found[Path(run["encoded"]).absolute()] = None
        for spec in self.specs:
            add(spec.encoded, spec.encode_fingerprint)
        for launched in self.launched:
            references = launched.origin.get("references")
            taken = encoded.fingerprint(launched.settings, launched.step_fingerprints, references)
            add(launched.encoded, taken)
        return found
