"""Whether a run fits into its GPUs, asked before its weights are loaded.

Started by `launch` as `python -m spark_trainer.train.memory_check <run folder> [<bytes of a GPU>]`,
because it imports what the launcher does without. It prints the plan; its exit status is TOO_LARGE
where the run can't fit.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spark_trainer.config import Run
from spark_trainer.errors import UserError
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.system import gpu, log
from spark_trainer.train.topology import Topology

if TYPE_CHECKING:
    from spark_trainer.train.memory_pass import Data

TOO_LARGE = 3
LIMIT_SECONDS = 900.0
GIB = 2**30


class DoesNotFit(UserError):
    """A run needs more memory than its GPUs have; the message says how much, and what would fit."""


def before_loading(folder: RunFolder, memory: int | None) -> None:
    """Log what a run will take, and stop one that can't fit.

    A run whose memory can't be computed goes on: the log says why.

    Args:
        folder: of the run, as it is launched.
        memory: bytes of the smallest of its GPUs; None where that is not known.

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
        raise DoesNotFit(done.stdout.strip())
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1]
        log.logger.warning("what the run takes of memory can't be computed: %s", reason)
        return
    log.logger.info("memory, computed:\n%s", done.stdout.rstrip())


def main(arguments: list[str]) -> int:
    """Print what the run of a folder takes; returns TOO_LARGE where a GPU has less."""
    from spark_trainer.train import memory_plan
    from spark_trainer.train.memory_pass import Data

    folder = RunFolder(Path(arguments[0]))
    launched = LaunchedRun.read(folder)
    run, data = launched.settings, Data(folder.manifest, launched.data_root)
    topology = Topology(launched.nodes, launched.processes_per_node, launched.device)
    plan = memory_plan.of(run, topology, data)
    memory = int(arguments[1]) if len(arguments) > 1 else None
    if memory is None or plan.peak <= memory:
        print(memory_plan.table({launched.name: plan}))
        return 0
    print(
        f"run {launched.name} takes {plan.peak / GIB:.1f} GiB of each GPU, which has "
        f"{memory / GIB:.1f}; {_advice(run, topology, data, memory)}"
    )
    return TOO_LARGE


def _advice(run: Run, topology: Topology, data: "Data", memory: int) -> str:
    """Say which settings fit that are near those of a run."""
    from spark_trainer.train import memory_plan

    lowest = None
    for words, other in memory_plan.alternatives(run):
        lowest = memory_plan.of(other, topology, data)
        if lowest.peak <= memory:
            return f"it would take {lowest.peak / GIB:.1f} with train: {{{words}}}"
    least = f", {lowest.peak / GIB:.1f} GiB at the least" if lowest else ""
    return (
        "no change of batch_size, gradient_checkpointing, mixed_precision, optimizer and finetune "
        f"is enough{least}; take fewer or smaller frames (train.clip), or shard the model "
        "(train.fsdp, train.deepspeed_config)"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
