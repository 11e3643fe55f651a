"""Processes that train several runs, one after the other: most of a short run is its start.

`python -m tests.train.together FOLDER ...`, started as the training processes are.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from torch.distributed import PrefixStore, barrier
from torch.distributed.distributed_c10d import _get_default_store

from spark_trainer.runs.spec import RunSpec
from spark_trainer.train import processes, writer
from spark_trainer.train.topology import Topology

from .conftest import train, write_run


def train_together(runs: Iterable[RunSpec]) -> None:
    """Train runs in the same two processes."""
    runs = list(runs)
    folders = [str(write_run(made, processes=2)) for made in runs]
    program = ["-m", "tests.train.together", *folders]
    assert processes.start(program, runs[0].settings, Topology(1, 2, "cpu"), 2, None).status == 0


def main() -> None:
    for folder in sys.argv[1:]:
        # As in processes of its own: checkpoints of a run meet by the keys of a new store.
        writer._get_default_store = lambda name=folder: PrefixStore(name, _get_default_store())
        train(Path(folder))
    barrier()
    sys.stderr.flush()
    os._exit(0)  # as the training processes leave: Gloo's threads may outlive Python


if __name__ == "__main__":
    main()
