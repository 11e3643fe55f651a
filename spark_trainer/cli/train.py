"""The command that trains: what the workflow builds, or a manifest that is there already."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spark_trainer import config
from spark_trainer.cli import commands, flags, snakemake, workflow
from spark_trainer.config import described
from spark_trainer.errors import UserError
from spark_trainer.system import gpu, log

KINDS = {"batch_size": int, "learning_rate": float, "num_epochs": int}


def train(options: argparse.Namespace) -> int:
    """Train every run of the configuration; build the manifest first, or take --manifest-path."""
    if options.manifest_path is None:
        _ask(options)
    if options.passed_on:
        words = " ".join(options.passed_on)
        raise UserError(f"{words}: --manifest-path builds nothing, so Snakemake is not asked")
    return _fit(options)


def _ask(options: argparse.Namespace) -> None:
    """Ask Snakemake for `train`, the flags laid over every run."""
    workflow.refuse(options.passed_on)
    if options.threads is not None:
        raise UserError("--threads: expected --cores, or --manifest-path as well")
    path: Path = workflow.configuration(options)
    if _given(options):
        settings, data = config.read(path), config.mapping(path)
        elsewhere = snakemake.elsewhere(options.passed_on)
        runs, said = _laid(options, settings, None if elsewhere else len(gpu.visible()))
        data["train"] = runs
        config.load(data)
        commands.tell(said)
        path = snakemake.kept(data)
    snakemake.ask(("train",), path, options.passed_on)


def _fit(options: argparse.Namespace) -> int:
    """Train on a manifest that is there, in this process, as the rule's job does."""
    from spark_trainer.config import chain
    from spark_trainer.data.layout import Layout
    from spark_trainer.preflight import needs
    from spark_trainer.runs import configured
    from spark_trainer.runs.spec import RunSpec
    from spark_trainer.train import encode as encoding
    from spark_trainer.train import launch
    from spark_trainer.train.strategies import deepspeed_config

    log.start("train")
    log.facts()
    settings = config.read(options.config)
    layout, here = Layout(Path(settings.output_dir)), len(gpu.visible())
    laid, said = _laid(options, settings, here)
    commands.tell(said)
    wanted = config.load({"train": laid}).runs
    for run in wanted.values():
        if run.use_deepspeed:
            deepspeed_config.read(run)
    specs: dict[str, RunSpec] = {}
    for name in chain.order(wanted):
        specs[name] = configured.spec_on_manifest(name, wanted[name], layout, others=specs)
    needs.before(settings, needs.Due((), wanted, here))
    threads = options.threads or 1
    for spec in specs.values():
        run = spec.settings
        data, granted = Path(run.manifest_path or ""), here * run.nodes
        if run.encoded_ahead:
            encoding.run(spec, data, granted, threads)
        launch.fit(spec, data, granted, threads, run.nodes)
        print(spec.folder.summary, file=sys.stderr)
    return 0


def _given(options: argparse.Namespace) -> dict[str, Any]:
    return {key: getattr(options, key) for key in flags.OF_RUN if getattr(options, key) is not None}


def _laid(
    options: argparse.Namespace, settings: config.Config, gpus: int | None
) -> tuple[Mapping[str, Any], list[str]]:
    """Lay the flags over every run.

    Args:
        options: the command line.
        settings: the configuration.
        gpus: how many are here; None where the jobs run on other machines.

    Returns:
        The section `train` with them, and what they took back.
    """
    found: dict[str, dict[str, Any]] = {}
    said, named = list[str](), bool(settings.train and settings.train.runs)
    for name, run in (settings.runs or {"default": config.Run()}).items():
        key = f"train.runs.{name}" if named else "train"
        here = run.gpus if gpus is None else gpus
        values, lines = flags.over_run(run, _given(options), key, here)
        found[name] = {key: value for key, value in values.items() if value is not None}
        said += lines
    return ({"runs": found} if named else found["default"]), said


def train_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `train`."""
    alone = {"manifest_path": " Nothing is built then, and Snakemake is not asked."}
    for name in flags.OF_RUN:
        text = described.described("train", name) + alone.get(name, "")
        parser.add_argument(f"--{name.replace('_', '-')}", type=KINDS.get(name, str), help=text)
    threads = "of the processor, for each process, with --manifest-path (default: 1)"
    parser.add_argument("--threads", type=flags.count, help=threads)
