"""Which runs a configuration asks for, and the id that names the folder of each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spark_trainer import families
from spark_trainer.config import Config, ConfigError, Run
from spark_trainer.data import encoded, models
from spark_trainer.data.files import digest
from spark_trainer.data.index import Index
from spark_trainer.data.layout import Layout
from spark_trainer.runs import base_run
from spark_trainer.runs.spec import RunSpec

VERSION = 2  # raised when the same data and settings give other weights
ID_DIGITS = 8
ORIGIN_DIGITS = 16


def specs(config: Config, index: Index, fingerprints: Mapping[str, str]) -> dict[str, RunSpec]:
    """Return the spec of every configured run, by name.

    A run on the manifest built here is named by the videos' hashes and the fingerprint of all
    steps, not by the manifest's bytes: a renamed video trains nothing again.

    Raises:
        ConfigError: a run's `manifest_path` does not exist, or it can't go on from the run that it
            names.
    """
    found = {}
    for name, run in config.runs.items():
        key = f"train.runs.{name}"
        if run.manifest_path is None:
            data = [list(index.videos), fingerprints["manifest"]]
            spec = _spec(name, run, data, index.layout, key)
            found[name] = replace(
                spec,
                data_root=index.layout.root,
                index=index.layout.index(index.digest),
                step_fingerprints={
                    step: fingerprints[step]
                    for step in (encoded.HEARD if run.kind == "speech" else encoded.READ)
                },
            )
        else:
            found[name] = spec_on_manifest(name, run, index.layout, key)
    return found


def spec_on_manifest(name: str, run: Run, layout: Layout, key: str = "train") -> RunSpec:
    """Return the spec of a run over an existing manifest, its state kept in a layout of ours.

    Args:
        name: of the run.
        run: its settings.
        layout: where what is encoded for it goes.
        key: where the settings stand in the configuration.

    Raises:
        ConfigError: as `specs`.
    """
    path = Path(run.manifest_path or "")
    if not path.is_file():
        raise ConfigError(f"{key}.manifest_path: no such file: {path}")
    data = models.identity(str(path), layout.model_digests)
    spec = _spec(name, run, data, layout, key)
    return replace(spec, data_root=path.parent, manifest_digest=data[: encoded.DIGITS])


def _spec(name: str, run: Run, data: Any, layout: Layout, key: str) -> RunSpec:
    """Return what follows from the settings, the weights, and what stands for the data."""
    cache = layout.model_digests
    weights = models.identity(run.model_name, cache)
    decisive = {"version": VERSION, "data": data, "settings": run.results(), "weights": weights}
    origin = {"data": digest(data)[:ORIGIN_DIGITS], "weights": digest(weights)[:ORIGIN_DIGITS]}
    if references := _references(run, cache, key):
        decisive["references"] = references
        origin["references"] = references[:ORIGIN_DIGITS]

    def run_id(base: str) -> str:
        return digest(decisive | {"base": base} if base else decisive)[:ID_DIGITS]

    base = base_run.find(name, run, run_id, key) if run.continue_from else None
    if base:
        base_run.check(base, run, origin, key)
    if run.encode_vision:
        encoders = encoded.vision_tower(run, cache)
    elif run.kind == "speech":
        encoders = encoded.sound_encoder(run, cache)
    else:
        encoders = encoded.encoders(run, families.trained_components(run.model_name), cache)
    return RunSpec(
        name=name,
        run_id=run_id(base.name if base else ""),
        settings=run,
        data_root=layout.root,
        encoded=layout.encoded(digest(encoders)[: encoded.DIGITS]),
        step_fingerprints=None,
        origin=origin,
        base=base,
    )


def _references(run: Run, cache: Path, key: str) -> str | None:
    """Return what stands for the content of a run's references; None where it has none.

    Raises:
        ConfigError: they are not there.
    """
    path = run.asr.references if run.kind == "speech" else None
    if path is None:
        return None
    if not Path(path).exists():
        raise ConfigError(f"{key}.asr.references: no such file or folder: {path}")
    return models.identity(path, cache)
