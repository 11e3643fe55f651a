"""Processes that train a run with attention as on a GPU, stopped after an update, and go on.

`python -m tests.train.compiled FOLDER BACKEND`, started as the training processes are. BACKEND is
one of torch's, such as `inductor`. Each process writes how many graphs were compiled until the
stop, and how many from there to the end.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch.distributed import PrefixStore
from torch.distributed.distributed_c10d import _get_default_store

from spark_trainer.data.files import write_json
from spark_trainer.errors import Stopped
from spark_trainer.train import setup, writer
from spark_trainer.train.loop import Trainer
from spark_trainer.train.stop import Asked

from .conftest import fresh
from .matrix import attend_as_on_gpu


def stop(model: torch.nn.Module, *_: Any) -> None:
    """Ask for a stop, as Slurm does."""
    if model.training:
        signal.raise_signal(signal.SIGTERM)


def train(folder: Path, stopped: bool) -> int:
    """Train, to the first update or to the last; returns how many graphs that took."""
    counters.clear()
    fresh()
    start = setup.prepare(folder)
    attend_as_on_gpu(start)
    trainer = Trainer.build(start, Asked())
    if stopped:
        start.loaded.model.register_forward_hook(stop)
    try:
        trainer.train()
        assert not stopped
    except Stopped:
        assert stopped
    return int(counters["stats"]["unique_graphs"])


def main() -> None:
    folder, backend = Path(sys.argv[1]), sys.argv[2]
    torch.compile = partial(torch.compile, backend=backend)
    counts = []
    for stopped in (True, False):
        # As in processes of its own: checkpoints of a run meet by the keys of a new store.
        name = f"stopped {stopped}"
        writer._get_default_store = lambda name=name: PrefixStore(name, _get_default_store())
        torch.compiler.reset()
        counts.append(train(folder, stopped))
    write_json(folder / f"graphs_{os.environ['RANK']}.json", counts)
    sys.stderr.flush()
    os._exit(0)  # as the training processes leave: Gloo's threads may outlive Python


if __name__ == "__main__":
    main()
