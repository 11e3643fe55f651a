"""Every family in every precision, way of learning and strategy takes two updates.

Full and low-rank (and four bits, where a CPU can) × float32 and bf16 × gradient checkpointing on
and off × one process that holds everything, ZeRO-2, ZeRO-3 and FSDP2, each with the held-out loss
and a sample before and after, and a count of FLOPs. Shared out, all pairs of these settings meet,
not all of them at once. See matrix.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spark_trainer.config.optimization import RECOMPUTED, Recomputed
from spark_trainer.train.loop import Trainer
from spark_trainer.train.updates import Updates

from . import matrix
from .conftest import fresh
from .matrix import Cell, Live, Store

# Of the largest gradient: the same products, of which some are made twice.
APART = 1e-5
VARIANTS = [
    Cell(variant, tune, "bf16", True, "ddp")
    for variant in matrix.OTHERS
    for tune in ("full", "lora")
]
CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("matrix"))


@pytest.mark.long
@pytest.mark.parametrize("cell", [*matrix.cells("ddp"), *VARIANTS], ids=str)
def test_alone(cell: Cell, store: Store) -> None:
    matrix.run(store, cell)


@pytest.mark.long
@pytest.mark.parametrize(
    "strategy", [strategy for strategy in matrix.STRATEGIES if strategy != "ddp"]
)
def test_shared_out(strategy: str, tmp_path: Path) -> None:
    file = tmp_path / "told.json"
    command = [sys.executable, "-m", "tests.train.matrix", strategy, str(file)]
    subprocess.run(command, env=os.environ | CPU, check=True)
    told = json.loads(file.read_text())
    assert told.keys() == {str(cell) for cell in matrix.cells(strategy)}
    assert not {cell: words for cell, words in told.items() if words}


class Pass:
    """What a forward and a backward pass over one batch took and gave."""

    def __init__(self, updates: Updates, counted: bool) -> None:
        updates.peak_tflops = 1.0 if counted else None
        [batch] = updates.reader[[0]].batches
        torch.manual_seed(0)
        with Live() as live:
            # What the frozen encoders took before, as they do at each step here, is no part of it.
            begun = updates.model.register_forward_pre_hook(lambda *_: live.restart())
            updates._pass(batch, torch.tensor(1), used=True, last=True)
        begun.remove()
        self.peak = live.peak
        self.flops = updates.meter.take()
        self.gradients = [p.grad.clone() for p in updates.weights if p.grad is not None]
        for parameter in updates.weights:
            parameter.grad = None


def passes(store: Store, family: str, finetune: str, recomputed: Recomputed) -> tuple[Pass, Pass]:
    """A plain one, and one whose FLOPs are counted."""
    start = store.prepare(Cell(family, finetune, "no", recomputed, "ddp"))
    updates = Trainer.build(start).updates
    with matrix.watched(start.loaded.model) as watch:
        Pass(updates, counted=False)  # what is made once and kept
        found = Pass(updates, counted=False), Pass(updates, counted=True)
    assert not watch.differentiated
    fresh()
    return found


# What is always run: one that crashed, and one whose frozen part was differentiated.
ALWAYS = {("blip", "lora"), ("llava", "full")}


@pytest.mark.parametrize(
    ("family", "finetune"),
    [
        pytest.param(family, tune, marks=[] if (family, tune) in ALWAYS else pytest.mark.long)
        for family in matrix.FAMILIES
        for tune in ("full", "lora")
    ],
)
def test_recomputing_changes_memory_alone(family: str, finetune: str, store: Store) -> None:
    """Not the gradients, nor the FLOPs that are counted; counting them takes no memory.

    What is recomputed in part lies between.
    """
    kept, kept_counted = passes(store, family, finetune, recomputed=False)
    plain, counted = passes(store, family, finetune, recomputed=True)
    print(family, finetune, "kept", kept.peak, "recomputed", plain.peak, "counted", counted.peak)
    assert plain.peak < 1.01 * kept.peak  # of BLIP-2's tiny Q-Former the inputs are the most
    assert counted.peak <= 1.1 * plain.peak
    assert kept_counted.peak <= 1.1 * kept.peak
    assert counted.flops == kept_counted.flops > 0
    most = max(gradient.abs().max().item() for gradient in kept.gradients)
    assert most > 0
    for one, other in zip(kept.gradients, plain.gradients, strict=True):
        assert (one - other).abs().max().item() <= APART * most
    for how in RECOMPUTED[2:-1]:
        partly, partly_counted = passes(store, family, finetune, how)
        print(family, finetune, how, partly.peak)
        assert 0.99 * plain.peak < partly.peak < 1.01 * kept.peak
        assert partly_counted.flops == counted.flops
        assert all(map(torch.equal, partly.gradients, plain.gradients))
