"""Which runs a configuration asks for, and the id that names the folder of each."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spark_trainer import families
from spark_trainer.config import STEP_SECTIONS, Config, ConfigError, Run, chain
from spark_trainer.config.rewards import FUNCTION
from spark_trainer.data import encoded, models
from spark_trainer.data.corrected import learnt
from spark_trainer.data.dataset import split_of
from spark_trainer.data.files import digest, file_digest
from spark_trainer.data.index import Index
from spark_trainer.data.layout import Layout
from spark_trainer.runs import continued
from spark_trainer.runs.spec import RunSpec
from spark_trainer.speech.folder import linked

VERSION = 2  # raised when the same data and settings give other weights
ID_DIGITS = 8
ORIGIN_DIGITS = 16


def specs(config: Config, index: Index, fingerprints: Mapping[str, str]) -> dict[str, RunSpec]:
    """Return the spec of every configured run, by name.

    A run on the manifest built here is named by the videos' hashes, the fingerprint of all steps
    what was corrected by hand and what the
    user's files say, not by the manifest's bytes: a renamed video trains nothing
    again, nor does a flag.

    Raises:
        ConfigError: a run's `manifest_path` does not exist, or it can't go on from the run that it
            names.
    """
    found: dict[str, RunSpec] = {}
    for name in chain.order(config.runs):
        run, key = config.runs[name], f"train.runs.{name}"
        if run.manifest_path is None:
            by_hand = filter(None, [learnt(index.notes), index.labels.name])
            held_out = _held_out(index, run)
            data = [list(index.videos), fingerprints["manifest"], *held_out, *by_hand]
            spec = _spec(name, run, data, index.layout, key, found)
            found[name] = replace(
                spec,
                data_root=index.layout.root,
                index=index.layout.index(index.digest),
                made_by=dict(_asked_for(config, fingerprints)),
                step_fingerprints={
                    step: fingerprints[step]
                    for step in (encoded.HEARD if run.kind == "speech" else encoded.READ)
                },
            )
        else:
            found[name] = spec_on_manifest(name, run, index.layout, key, found)
    return {name: found[name] for name in config.runs}


def _asked_for(config: Config, fingerprints: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the steps that the configuration switches on, each with its fingerprint."""
    for step, fingerprint in fingerprints.items():
        name = step.partition("/")[0]
        if name in STEP_SECTIONS and config.switched_on(name):
            yield step, fingerprint


def _held_out(index: Index, run: Run) -> Iterator[list[str]]:
    """Yield the videos that paths hold out, where they do: paths are no part of the rest."""
    if run.split.validation_paths:
        alone = run.split.model_copy(update={"validation": 0.0, "test": 0.0})
        yield [one for one in index.videos if split_of(one, alone, index.sources[one]) != "train"]


def spec_on_manifest(
    name: str,
    run: Run,
    layout: Layout,
    key: str = "train",
    others: Mapping[str, RunSpec] = MappingProxyType({}),
) -> RunSpec:
    """Return the spec of a run over an existing manifest, its state kept in a layout of ours.

    Args:
        name: of the run.
        run: its settings.
        layout: where what is encoded for it goes.
        key: where the settings stand in the configuration.
        others: the specs of other runs, that of its `base_run` among them.

    Raises:
        ConfigError: as `specs`.
    """
    path = Path(run.manifest_path or "")
    if not path.is_file():
        raise ConfigError(f"{key}.manifest_path: no such file: {path}")
    data = models.identity(str(path), layout.model_digests)
    spec = _spec(name, run, data, layout, key, others)
    return replace(spec, data_root=path.parent, manifest_digest=data[: encoded.DIGITS])


def _spec(
    name: str, run: Run, data: Any, layout: Layout, key: str, others: Mapping[str, RunSpec]
) -> RunSpec:
    """Return what follows from the settings, the weights, and what stands for the data.

    The weights of a `base_run` are not there yet: its id stands for them.
    """
    cache, weights = layout.model_digests, ""
    if run.base_run is None:
        weights = models.identity(run.model_name, cache)
    else:
        trained = others[run.base_run]
        run = run.model_copy(update={"model_name": str(trained.folder.final)})
        weights = f"run {trained.run_id}"
    decisive = {"version": VERSION, "data": data, "settings": run.results(), "weights": weights}
    origin = {"data": digest(data)[:ORIGIN_DIGITS], "weights": digest(weights)[:ORIGIN_DIGITS]}
    if read := files(run, key):
        decisive["files"] = read
        origin["files"] = digest(read)[:ORIGIN_DIGITS]
    if references := _references(run, cache, key):
        decisive["references"] = references
        origin["references"] = references[:ORIGIN_DIGITS]

    def run_id(base: str) -> str:
        return digest(decisive | {"base": base} if base else decisive)[:ID_DIGITS]

    base = continued.find(name, run, run_id, key) if run.continue_from else None
    if base:
        continued.check(base, run, origin, key)
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


def check_files(spec: RunSpec) -> None:
    """Look whether the user's files are still those that the run's id names.

    Raises:
        ConfigError: one has changed since, or can't be read.
    """
    read = files(spec.settings, f"train.runs.{spec.name}")
    if read and digest(read)[:ORIGIN_DIGITS] != spec.origin["files"]:
        raise ConfigError(
            f"train.runs.{spec.name}: a file that it reads has changed since it was planned; start "
            f"it again: {', '.join(read)}"
        )


def files(run: Run, key: str) -> dict[str, str]:
    """Return the digests of the user's files that decide what a run learns.

    Raises:
        ConfigError: one can't be read.
    """
    rewards = run.rft.reward_funcs if run.model_type == "rft" else ()
    own = [found["file"] for name in rewards if (found := FUNCTION.fullmatch(name))]
    wanted = [("rft.reward_funcs", file) for file in own]
    if run.text.questions is not None:
        wanted.append(("text.questions", run.text.questions))
    digests = {}
    for setting, file in wanted:
        try:
            digests[f"{setting}: {file}"] = file_digest(Path(file).expanduser())
        except OSError as error:
            raise ConfigError(f"{key}.{setting}: {file}: {error.strerror}") from None
    return digests


def _references(run: Run, cache: Path, key: str) -> str | None:
    """Return what stands for the content of a run's references; None where it has none.

    Raises:
        ConfigError: they are not there, or can't be read.
    """
    path = run.asr.references if run.kind == "speech" else None
    if path is None:
        return None
    if not (Path(path).is_file() or Path(path).is_dir()):
        raise ConfigError(f"{key}.asr.references: no such file or folder: {path}")
    try:
        found = models.identity(path, cache)
        behind = [models.identity(str(one), cache) for one in linked(Path(path))]
    except PermissionError as error:
        if not Path(str(error.filename)).is_relative_to(path):  # it is of the store
            raise
        raise ConfigError(f"{key}.asr.references: {error.filename}: {error.strerror}") from None
    return digest([found, *behind]) if behind else found
