"""A training run as it was asked for and as it was launched, each with one reader and one writer.

The keys in both files are those of the first release, so that a run which stands in the middle
goes on after an update: `seal` is the run id, `versions` the steps' fingerprints, `given` the
digest of a given manifest.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from spark_trainer.config import Run
from spark_trainer.data import encoded
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.data.files import holds, read_json, read_state, write_json
from spark_trainer.data.layout import Layout
from spark_trainer.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class _Common:
    """What holds before and after a launch.

    Frames and audio of the data lie relative to `data_root`. `encoded` is the folder of what
    frozen encoders make of the data, `step_fingerprints` are those of the steps that the data
    comes from, absent where a manifest was given. `origin` stands for the data and for the weights
    that the run begins with, and for references that it is given beside the data.
    """

    name: str
    run_id: str
    settings: Run
    data_root: Path
    encoded: Path
    step_fingerprints: dict[str, str] | None
    origin: dict[str, str]

    @property
    def base_run(self) -> str | None:
        """Return the name of the run folder whose weights this run begins with, if it has one."""
        if self.settings.from_scratch:
            return None
        if self.settings.base_run:  # its `final/`, which may not be there yet
            return Path(self.settings.model_name).parent.name
        weights = Path(self.settings.model_name)
        around = [*weights.absolute().parents, *weights.resolve().parents]  # it may be a link
        return next((run.name for run in map(RunFolder, around) if run.exists()), None)

    @property
    def encode_fingerprint(self) -> str:
        """Return what names the clips and texts that a run takes."""
        references = self.origin.get("references")
        return encoded.fingerprint(self.settings, self.step_fingerprints, references)

    @property
    def encoded_files(self) -> EncodedFiles:
        """Return what frozen encoders made of the data, or will make."""
        return EncodedFiles(self.encoded, self.step_fingerprints, self.encode_fingerprint)

    def _common_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "seal": self.run_id,
            "settings": self.settings.model_dump(mode="json"),
            "data_root": str(self.data_root),
            "encoded": str(self.encoded),
            "versions": self.step_fingerprints,
            "origin": self.origin,
        }


def _common(value: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `_Common` from what `_common_json` gave."""
    return {
        "name": value["name"],
        "run_id": value["seal"],
        "settings": Run(**renamed(value["settings"])),
        "data_root": Path(value["data_root"]),
        "encoded": Path(value["encoded"]),
        "step_fingerprints": value["versions"],
        "origin": value["origin"],
    }


def renamed(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings with the keys of this version, so that it goes on after an update."""
    kept = {key: value for key, value in settings.items() if key != "wandb_project"}
    if project := settings.get("wandb_project"):
        kept |= {"trackers": ("wandb",), "tracker_project": project}
    return kept


@dataclass(frozen=True, kw_only=True)
class RunSpec(_Common):
    """A run as it was asked for.

    `index` is the snapshot of the video folders; where a manifest was given there is none, but
    `manifest_digest`. `base` is the folder of the run that this one goes on from. `made_by` are the
    fingerprints of all steps behind the data, for its lineage.
    """

    index: Path | None = None
    manifest_digest: str | None = None
    base: RunFolder | None = None
    made_by: dict[str, str] | None = None

    @property
    def folder(self) -> RunFolder:
        """Return the run folder; another id never shares it, so a resume never mixes two runs."""
        return RunFolder(Path(self.settings.output_dir) / f"{self.name}-{self.run_id}")

    def encode_marker(self, shard: str) -> Path:
        """Name the marker over what a run reads of a shard, or of a given manifest as of one."""
        output_dir, encoders = self.encoded.parents[1], self.encoded.name
        return Layout(output_dir).encode_marker(encoders, shard, self.encode_fingerprint)

    def write(self, layout: Layout) -> Path:
        """Write the spec for the job that carries it out; returns where."""
        path = layout.settings("train", f"{self.name}-{self.run_id}")
        value = self._common_json() | {
            "index": None if self.index is None else str(self.index),
            "given": self.manifest_digest,
            "base": None if self.base is None else str(self.base),
            "made_by": self.made_by,
        }
        if not holds(path, value):
            write_json(path, value)
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            Broken: it is damaged, and removed, so that the next call writes it again.
        """
        value = read_state(path, dict)
        return cls(
            **_common(value),
            index=Path(value["index"]) if value["index"] else None,
            manifest_digest=value["given"],
            base=RunFolder(Path(value["base"])) if value["base"] else None,
            made_by=value.get("made_by"),
        )


@dataclass(frozen=True, kw_only=True)
class LaunchedRun(_Common):
    """A run as it was launched: what its processes read in the run folder.

    `processes` counts those of all nodes together, `device` is `cuda` or `cpu`, `continued_from`
    the name of the run folder that this run went on from, `deepspeed` DeepSpeed's own settings.
    """

    nodes: int
    processes: int
    device: str
    continued_from: str | None = None
    deepspeed: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        spec: RunSpec,
        nodes: int,
        processes: int,
        device: str,
        deepspeed: dict[str, Any] | None = None,
    ) -> Self:
        """Launch a spec on so many processes in all."""
        common = {field.name: getattr(spec, field.name) for field in fields(_Common)}
        return cls(
            **common,
            nodes=nodes,
            processes=processes,
            device=device,
            continued_from=spec.base.name if spec.base else None,
            deepspeed=deepspeed,
        )

    @property
    def processes_per_node(self) -> int:
        return self.processes // self.nodes

    def write(self, folder: RunFolder) -> None:
        """Write the run into its folder."""
        value = self._common_json() | {
            "continued": self.continued_from,
            "nodes": self.nodes,
            "processes": self.processes,
            "device": self.device,
        }
        if self.deepspeed is not None:
            value["deepspeed"] = self.deepspeed
        write_json(folder.run_file, value)

    @classmethod
    def read(cls, folder: RunFolder) -> Self:
        """Read what `write` wrote.

        Raises:
            OSError: it is not there, or can't be read.
            ValueError: it is damaged, or its settings are none of this version's.
            KeyError: it lacks something.
        """
        value = read_json(folder.run_file, dict)
        return cls(
            **_common(value),
            nodes=value["nodes"],
            processes=value["processes"],
            device=value["device"],
            continued_from=value["continued"],
            deepspeed=value.get("deepspeed"),
        )


def settings(folder: RunFolder) -> dict[str, Any]:
    """Read a launched run's settings as they were written, also those of another version.

    Raises:
        OSError, ValueError, KeyError: as `LaunchedRun.read`.
    """
    return dict(read_json(folder.run_file, dict)["settings"])
