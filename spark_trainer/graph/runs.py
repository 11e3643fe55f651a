"""The graph from the manifest to trained runs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spark_trainer.errors import UserError
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.train import encode, order
from spark_trainer.train.order import Order


@dataclass(frozen=True)
class RunGraph:
    """Which runs are configured, what each reads, and where its results lie."""

    videos: VideoGraph

    @cached_property
    def orders(self) -> dict[str, Order]:
        """Name -> what the run was asked to do."""
        return order.orders(self.videos.config, self.videos.index, self.videos.fingerprints)

    def data(self, run: str) -> list[Path]:
        """Name what a run waits for: its own manifest, else the parts of the one built here."""
        given = self.orders[run].settings.manifest_path
        return [Path(given)] if given else self.videos.markers("manifest")

    def data_file(self, run: str) -> Path:
        """Name a run's own manifest, or write the list of the parts."""
        given = self.orders[run].settings.manifest_path
        return Path(given) if given else self.videos.part_list()

    def trained(self, run: str) -> Path:
        """Name the summary of a finished run, in the folder that its settings and data name."""
        return self.orders[run].folder / "trained.json"

    @property
    def summaries(self) -> dict[str, Path]:
        """Name -> where the run's summary is, or will be."""
        return {run: self.trained(run) for run in self.orders}

    def order_file(self, run: str) -> Path:
        """Write the order that a run's job reads."""
        return order.write(self.videos.layout.state, self.orders[run])

    def encoded(self, run: str) -> list[Path]:
        """Name the markers over what a run's frozen encoders made of its data."""
        made = self.orders[run]
        if not made.settings.encoded_ahead:
            return []
        shards = [shard.name for shard in self.videos.index.shards]
        return [made.encode_marker(name) for name in ([made.given] if made.given else shards)]

    def reader(self, encoders: str, shard: str, fingerprint: str) -> str:
        """Find a run that takes what is kept under a marker of `encode`.

        Raises:
            UserError: none does.
        """
        marker = self.videos.layout.encode_marker(encoders, shard, fingerprint)
        for name, made in self.orders.items():
            if made.settings.encoded_ahead and made.encode_marker(shard) == marker:
                return name
        raise UserError(f"no run has the encoders and the settings of {marker}")

    def to_encode(self, run: str, shard: str) -> Path:
        """Name the manifest's part for a shard, or the run's own manifest."""
        given = self.orders[run].settings.manifest_path
        graph = self.videos
        return Path(given) if given else graph.marker("manifest", graph.index.shard_of(shard))

    def encode_gpus(self, run: str) -> int:
        """Count the GPUs that a job of `encode` asks for."""
        return encode.gpus(self.orders[run], self.videos.local)
