"""The graph from the manifest to trained runs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spark_trainer.config.transcript import TRAINED
from spark_trainer.data.files import read_json, write_json
from spark_trainer.errors import UserError
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.runs import configured
from spark_trainer.runs.folder import RunFolder, below, state
from spark_trainer.runs.spec import RunSpec
from spark_trainer.steps import manifest
from spark_trainer.train import encode
from spark_trainer.train.strategies import deepspeed_config


@dataclass(frozen=True)
class RunGraph:
    """Which runs are configured, what each reads, and where its results lie."""

    videos: VideoGraph

    @cached_property
    def specs(self) -> dict[str, RunSpec]:
        """Return name -> the run as it was asked for.

        Raises:
            ConfigError: one can't be; the message names the key.
        """
        for name, run in self.videos.config.runs.items():
            if run.use_deepspeed:
                deepspeed_config.read(run, f"train.runs.{name}")
        return configured.specs(self.videos.config, self.videos.index, self.videos.fingerprints)

    def data(self, run: str) -> list[Path]:
        """Name what a run waits for: its own manifest, else the parts of the one built here."""
        given = self.specs[run].settings.manifest_path
        return [Path(given)] if given else self.videos.markers(manifest.NAME)

    def data_file(self, run: str) -> Path:
        """Name a run's own manifest, or write the list of the parts."""
        given = self.specs[run].settings.manifest_path
        return Path(given) if given else self.videos.part_list()

    def base(self, run: str) -> list[Path]:
        """Name the summary of the run whose trained weights this one begins with."""
        named = self.specs[run].settings.base_run
        return [self.specs[named].folder.summary] if named else []

    @property
    def summaries(self) -> dict[str, Path]:
        """Return name -> the summary of the finished run, in the folder that its id names."""
        return {run: spec.folder.summary for run, spec in self.specs.items()}

    @property
    def folders(self) -> list[RunFolder]:
        """List every run that lies where the configured ones do."""
        places = {spec.folder.path.parent for spec in self.specs.values()} | {Path("runs")}
        return [run for place in sorted(places) for run in below(place)]

    def outdated_report(self) -> list[Path]:
        """Write a fresh file where runs went on since the report was made."""
        marker, now = self.videos.report_marker, state(self.folders)
        if not marker.exists() or read_json(marker, dict).get("runs") == now:
            return []
        outdated = self.videos.layout.state / "outdated.json"
        # Of small files Snakemake compares the content, too: the same again would be nothing new.
        write_json(outdated, {"report": now})
        return [outdated]

    @property
    def transcriber(self) -> list[Path]:
        """Name the summary of the run whose model transcribes, where one of this graph does."""
        model = self.videos.config.transcript.whisper_model
        return [
            spec.folder.summary
            for spec in self.specs.values()
            if model.startswith(f"{TRAINED}{spec.folder}/")
        ]

    def spec_file(self, run: str) -> Path:
        """Write the spec that a run's job reads."""
        return self.specs[run].write(self.videos.layout)

    def encoded(self, run: str) -> list[Path]:
        """Name the markers over what a run's frozen encoders made of its data."""
        spec = self.specs[run]
        if not spec.settings.encoded_ahead:
            return []
        shards = [shard.name for shard in self.videos.index.shards]
        names = [spec.manifest_digest] if spec.manifest_digest else shards
        return [spec.encode_marker(name) for name in names]

    def reader(self, encoders: str, shard: str, fingerprint: str) -> str:
        """Find a run that takes what is kept under a marker of `encode`.

        Raises:
            UserError: none does.
        """
        marker = self.videos.layout.encode_marker(encoders, shard, fingerprint)
        for name, spec in self.specs.items():
            if spec.settings.encoded_ahead and spec.encode_marker(shard) == marker:
                return name
        raise UserError(f"no run has the encoders and the settings of {marker}")

    def to_encode(self, run: str, shard: str) -> Path:
        """Name the manifest's part for a shard, or the run's own manifest."""
        given = self.specs[run].settings.manifest_path
        graph = self.videos
        return Path(given) if given else graph.marker(manifest.NAME, graph.index.shard_of(shard))

    def encode_gpus(self, run: str) -> int:
        """Count the GPUs that a job of `encode` asks for."""
        return encode.gpus(self.specs[run], self.videos.local())
