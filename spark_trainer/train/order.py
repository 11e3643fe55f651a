"""What a training run was asked to do, and the seal that names its folder.

Light on purpose: the Snakefile reads this module to know where a run's results will be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spark_trainer.config import Config, ConfigError, Run
from spark_trainer.data import encoded, models
from spark_trainer.data.files import digest, holds, read_state, write_json
from spark_trainer.data.index import Index
from spark_trainer.data.layout import Layout
from spark_trainer.train import continued
from spark_trainer.train.strategies import deepspeed_config

VERSION = 2  # raised when the same data and settings give other weights
SEAL_DIGITS = 8
ORIGIN_DIGITS = 16
READ = ("frames", "pose")  # the steps whose files a family may read


@dataclass(frozen=True)
class Order:
    """One run: its name, its settings, and where its data and results are.

    `index` is the snapshot of the video folders, absent where a manifest was given; frames and
    audio of the data lie relative to `data_root`. `encoded` is the folder of what diffusion's
    encoders make of the data, `versions` the fingerprints of the steps that the data comes from,
    `given` the digest of a given manifest, `origin` what stands for the data and the first weights,
    `base` the folder of the run that this one goes on from.
    """

    name: str
    seal: str
    settings: Run
    data_root: Path
    index: Path | None
    encoded: Path
    versions: dict[str, str] | None
    given: str | None = None
    origin: dict[str, str] = field(default_factory=dict)
    base: Path | None = None

    @property
    def folder(self) -> Path:
        """The run folder; another seal never shares it, so a resume never mixes two runs."""
        return Path(self.settings.output_dir) / f"{self.name}-{self.seal}"

    def encode_marker(self, shard: str) -> Path:
        """The seal over what a run takes of a shard, or of a given manifest as of one shard."""
        settings = encoded.settings(self.settings, self.versions)
        output_dir, encoders = self.encoded.parents[1], self.encoded.name
        return Layout(output_dir).encode_marker(encoders, shard, settings)


def orders(config: Config, index: Index, fingerprints: Mapping[str, str]) -> dict[str, Order]:
    """The order of every configured run.

    A run on the manifest built here is sealed by the videos' hashes and the fingerprint of all
    steps, not by the manifest's bytes: a renamed video trains nothing again.

    Raises:
        ConfigError: a run's `manifest_path` does not exist, its DeepSpeed file is wrong, or it
            can't go on from the run that it names.
    """
    found = {}
    for name, run in config.runs.items():
        if run.manifest_path is None:
            _check(run, f"train.runs.{name}")
            data: Any = [list(index.videos), fingerprints["manifest"]]
            versions = {step: fingerprints[step] for step in READ}
            snapshot = index.layout.index(index.digest)
            key = f"train.runs.{name}"
            found[name] = _order(name, run, data, index.layout, snapshot, versions, key)
        else:
            found[name] = from_manifest(name, run, index.layout, f"train.runs.{name}")
    return found


def from_manifest(name: str, run: Run, layout: Layout, key: str = "train") -> Order:
    """The order of a run over an existing manifest, its state kept in a layout of ours.

    Raises:
        ConfigError: as `orders`.
    """
    _check(run, key)
    path = Path(run.manifest_path or "")
    if not path.is_file():
        raise ConfigError(f"{key}.manifest_path: no such file: {path}")
    data = models.identity(str(path), layout.model_digests)
    made = _order(name, run, data, layout, None, None, key)
    return replace(made, given=data[: encoded.DIGITS])


def _check(run: Run, key: str) -> None:
    if run.use_deepspeed:
        deepspeed_config.read(run, key)


def _order(
    name: str,
    run: Run,
    data: Any,
    layout: Layout,
    index: Path | None,
    versions: dict[str, str] | None,
    key: str,
) -> Order:
    cache = layout.model_digests
    weights = models.identity(run.model_name, cache)
    value = {"version": VERSION, "data": data, "settings": run.results(), "weights": weights}
    origin = {"data": digest(data)[:ORIGIN_DIGITS], "weights": digest(weights)[:ORIGIN_DIGITS]}

    def seal(base: str) -> str:
        return digest(value | {"base": base} if base else value)[:SEAL_DIGITS]

    base = continued.find(name, run, seal, key) if run.continue_from else None
    if base:
        continued.check(base, run, origin, key)
    root = layout.root if index else Path(run.manifest_path or "").parent
    kept = layout.encoded(digest(encoded.encoders(run, cache))[: encoded.DIGITS])
    return Order(
        name,
        seal(base.name if base else ""),
        run,
        root,
        index,
        kept,
        versions,
        origin=origin,
        base=base,
    )


def write(state: Path, order: Order) -> Path:
    """Write the order for the job that carries it out."""
    path = state / "settings" / f"train.{order.name}-{order.seal}.json"
    value = {
        "name": order.name,
        "seal": order.seal,
        "settings": order.settings.model_dump(mode="json"),
        "data_root": str(order.data_root),
        "index": None if order.index is None else str(order.index),
        "encoded": str(order.encoded),
        "versions": order.versions,
        "given": order.given,
        "origin": order.origin,
        "base": None if order.base is None else str(order.base),
    }
    if not holds(path, value):
        write_json(path, value)
    return path


def read(path: Path) -> Order:
    """Read what `write` wrote."""
    value = read_state(path, dict)
    return Order(
        value["name"],
        value["seal"],
        Run(**value["settings"]),
        Path(value["data_root"]),
        Path(value["index"]) if value["index"] else None,
        Path(value["encoded"]),
        value["versions"],
        value["given"],
        value["origin"],
        Path(value["base"]) if value["base"] else None,
    )
