"""The command that tells what runs take of memory."""

import argparse
import sys
from pathlib import Path

from spark_trainer import config
from spark_trainer.cli import flags
from spark_trainer.config import Run
from spark_trainer.data.layout import Layout
from spark_trainer.errors import UserError, of_machine


def memory(options: argparse.Namespace) -> int:
    """Compute what training runs take of each GPU and of the machine; no weights are loaded."""
    from spark_trainer.train import memory_choice, memory_plan
    from spark_trainer.train.memory_pass import Data
    from spark_trainer.train.topology import Topology, sharing

    settings = config.read(options.config)
    layout = Layout(Path(settings.output_dir))
    for name, run in _chosen(settings, options.run).items():
        run = run.model_copy(update={"gpus": options.gpus or max(1, run.gpus)})
        samples = run.samples_per_update
        gpus = sharing(samples, run.nodes, run.gpus) or run.gpus
        if gpus < run.gpus:
            text = f"{samples} samples per update can't be shared evenly"
            print(f"{name}: {gpus} of {run.gpus} GPUs: {text}", file=sys.stderr)
        topology = Topology(run.nodes, gpus, "cuda")
        manifest = Path(run.manifest_path or layout.manifest)
        data = Data(manifest, manifest.parent) if manifest.exists() else None
        if data is None:
            text = f"{manifest}: no such file yet; grey frames stand in for the samples"
            print(text, file=sys.stderr)
        planner = memory_plan.Planner(topology, data)
        auto = run.gradient_checkpointing == "auto"
        chosen_from = memory_choice.choices(run) if auto else []
        try:
            plans = {memory_choice.name(one): planner.plan(one) for one in chosen_from}
            plans |= planner.by_strategy(run)
        except (ValueError, OSError) as error:
            if of_machine(error):
                raise
            raise UserError(f"memory: run {name}: {run.model_name}: {error}") from None
        if data and not planner.measured(run).samples:
            text = f"{manifest}: nothing to learn from; grey frames stand in for the samples"
            print(text, file=sys.stderr)
        if auto:
            key = "gradient_checkpointing: auto"
            text = "is chosen by the memory of the GPUs; lines that don't say it are of true"
            print(f"{name}: {key} {text}", file=sys.stderr)
        print(f"{name}: GiB on each of {topology.world_size} GPUs, and of each machine (host)")
        print(memory_plan.table(plans))
    return 0


def memory_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `memory`."""
    parser.add_argument("--run", help="one of the configured runs (default: all)")
    parser.add_argument("--gpus", type=flags.count, help="GPUs of each node, instead of train.gpus")


def _chosen(settings: config.Config, name: str | None) -> dict[str, Run]:
    """Return the configured runs, or the one of this name."""
    runs = dict(settings.runs or {"default": Run()})
    if name is None:
        return runs
    if name not in runs:
        raise UserError(f"memory: no run {name!r}; expected one of: {', '.join(runs)}")
    return {name: runs[name]}
