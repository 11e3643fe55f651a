"""What a training run was asked to do, and the seal that names its folder.

Light on purpose: the Snakefile reads this module to know where a run's results will be.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_trainer.config import Config, ConfigError, Run
from spark_trainer.data import models
from spark_trainer.data.files import digest, read_json, write_json
from spark_trainer.data.index import Index
from spark_trainer.data.layout import Layout

VERSION = 1  # raised when the same data and settings give other weights
SEAL_DIGITS = 8


@dataclass(frozen=True)
class Order:
    """One run: its name, its settings, and where its data and results are.

    `index` is the snapshot of the video folders, absent where a manifest was given; frames and
    audio of the data lie relative to `data_root`.
    """

    name: str
    seal: str
    settings: Run
    data_root: Path
    index: Path | None

    @property
    def folder(self) -> Path:
        """The run folder; another seal never shares it, so a resume never mixes two runs."""
        return Path(self.settings.output_dir) / f"{self.name}-{self.seal}"


def orders(config: Config, index: Index, data_fingerprint: str) -> dict[str, Order]:
    """The order of every configured run.

    A run on the manifest built here is sealed by the videos' hashes and the fingerprint of all
    steps, not by the manifest's bytes: a renamed video trains nothing again.

    Raises:
        ConfigError: a run's `manifest_path` does not exist.
    """
    found = {}
    for name, run in config.runs.items():
        if run.manifest_path is None:
            data: Any = [list(index.videos), data_fingerprint]
            found[name] = _order(name, run, data, index.layout, index)
        else:
            found[name] = from_manifest(name, run, index.layout.state, f"train.runs.{name}")
    return found


def from_manifest(name: str, run: Run, state: Path, key: str = "train") -> Order:
    """The order of a run over an existing manifest."""
    path = Path(run.manifest_path or "")
    if not path.is_file():
        raise ConfigError(f"{key}.manifest_path: no such file: {path}")
    data = models.identity(str(path), state / "models.json")
    return _order(name, run, data, Layout(path.parent), None, state)


def _order(
    name: str, run: Run, data: Any, layout: Layout, index: Index | None, state: Path | None = None
) -> Order:
    cache = (state or layout.state) / "models.json"
    weights = models.identity(run.model_name, cache)
    value = {"version": VERSION, "data": data, "settings": run.results(), "weights": weights}
    seal = digest(value)[:SEAL_DIGITS]
    snapshot = layout.index(index.digest) if index else None
    return Order(name, seal, run, layout.root, snapshot)


def write(state: Path, order: Order) -> Path:
    """Write the order for the job that carries it out."""
    path = state / "settings" / f"train.{order.name}-{order.seal}.json"
    value = {
        "name": order.name,
        "seal": order.seal,
        "settings": order.settings.model_dump(mode="json"),
        "data_root": str(order.data_root),
        "index": None if order.index is None else str(order.index),
    }
    if not path.exists() or read_json(path) != value:
        write_json(path, value)
    return path


def read(path: Path) -> Order:
    """Read what `write` wrote."""
    value = read_json(path)
    return Order(
        value["name"],
        value["seal"],
        Run(**value["settings"]),
        Path(value["data_root"]),
        Path(value["index"]) if value["index"] else None,
    )
