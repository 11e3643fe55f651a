"""Whether a run fits into its GPUs, asked before its weights are loaded.

Started by `launch` as `python -m spark_trainer.train.memory_check <run folder> [<bytes of a GPU>]`,
because it imports what the launcher does without. It prints the plan, and decides in the folder
what `gradient_checkpointing: auto` is; its exit status is TOO_LARGE where the run can't fit.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spark_trainer.errors import UserError
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.system import gpu, log
from spark_trainer.train.topology import Topology

if TYPE_CHECKING:
    from spark_trainer.train.memory_plan import Plan

TOO_LARGE = 3
# Of a GPU's memory: how far what is computed may be from what is taken, as tiny models took it.
MARGIN, MARGIN_OF_SHARDS = 0.05, 0.15
LIMIT_SECONDS = 900.0
GIB = 2**30


class DoesNotFit(UserError):
    """A run needs more memory than its GPUs have; the message says how much, and what would fit."""


def before_loading(folder: RunFolder, memory: int | None, stops: bool) -> None:
    """Log what a run will take, and stop one that can't fit.

    A run whose memory can't be computed goes on: the log says why.

    Args:
        folder: of the run, as it is launched.
        memory: bytes of the smallest of its GPUs; None where that is not known.
        stops: whether one that can't fit is stopped, and not only told of.

    Raises:
        DoesNotFit: it can't.
    """
    command = [sys.executable, "-m", __name__, str(folder)]
    command += [] if memory is None else [str(memory)]
    variables = os.environ | {gpu.VISIBLE_VARIABLE: ""}
    try:
        done = subprocess.run(
            command,
            env=variables,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        log.logger.warning("what the run takes of memory was not computed in %g s", LIMIT_SECONDS)
        return
    if done.returncode == TOO_LARGE:
        told = done.stdout.strip()
        if stops:
            raise DoesNotFit(f"{told}; train.check_memory: false starts it all the same")
        log.logger.warning("%s; it starts because of train.check_memory: false", told)
        return
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1]
        log.logger.warning("what the run takes of memory can't be computed: %s", reason)
        return
    log.logger.info("memory, computed:\n%s", done.stdout.rstrip())


def main(arguments: list[str]) -> int:
    """Print what the run of a folder takes; returns TOO_LARGE where a GPU has less."""
    from spark_trainer.train import memory_advice, memory_choice, memory_plan
    from spark_trainer.train.memory_pass import Data
    from spark_trainer.train.memory_plan import Plan

    folder = RunFolder(Path(arguments[0]))
    launched = LaunchedRun.read(folder)
    run, data = launched.settings, Data(folder.manifest, launched.data_root)
    topology = Topology(launched.nodes, launched.processes_per_node, launched.device)
    planner = memory_plan.Planner(topology, data)
    memory = int(arguments[1]) if len(arguments) > 1 else None
    margin = MARGIN_OF_SHARDS if run.sharded else MARGIN
    told, tried = "", dict[str, Plan]()
    if memory is not None and run.gradient_checkpointing == "auto":
        run, tried = memory_choice.choose(run, planner, memory * (1 - margin))
        replace(launched, settings=run).write(folder)
        told = f"train.{memory_choice.name(run)}, chosen for GPUs of {memory / GIB:.1f} GiB\n"
    plan = planner.plan(run)
    if memory is None or plan.peak <= memory * (1 + margin):
        print(told + memory_plan.table(tried | {launched.name: plan}))
        if memory is not None and plan.peak > memory * (1 - margin):
            print(f"that is close to the {memory / GIB:.1f} GiB of a GPU, and may be too much")
        return 0
    advice = memory_advice.advice(run, planner, memory * (1 - MARGIN))
    print(f"run {launched.name} takes {too_large(plan, memory)}; {advice}")
    return TOO_LARGE


def too_large(plan: "Plan", memory: int) -> str:
    """Say what a plan takes of a GPU that has less."""
    whole = f", {plan.gathered / GIB:.1f} of it all weights at once, to generate answers"
    taken = f"{plan.peak / GIB:.1f} GiB of each GPU{whole if plan.gathered else ''}"
    return f"{taken}, which has {memory / GIB:.1f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
