"""What a layer more costs in kernels, casts and calls of attention, and how often a pass waits.

On a GPU each kernel takes the host some microseconds, each cast a read and a write of all that it
casts, each wait the time that is left of everything that was asked before. They are counted here
on tiny models; what they cost stands in benchmarks/README.md.
"""

from pathlib import Path

import pytest
import torch

from spark_trainer.train.loop import Trainer

from .budget import Asked, asked, deeper
from .conftest import fresh
from .matrix import Cell, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("budgets"))


def a_pass(store: Store, checkpoint: Path, finetune: str) -> Asked:
    """What a forward and a backward pass over two samples in bf16 asks."""
    cell = Cell(checkpoint.name, finetune, "bf16", False, "ddp")
    start = store.prepare(cell, model_name=str(checkpoint), peak_tflops=None)
    updates = Trainer.build(start).updates
    [batch] = updates.reader[[0, 1]].batches
    with asked() as found:
        updates._pass(batch, torch.tensor(1), used=True, last=True)
    fresh()
    return found


def a_layer(store: Store, family: str, finetune: str) -> Asked:
    """What a pass asks more where there is one layer more that writes."""
    base = store.checkpoint(family)
    one, two = (
        a_pass(
            store, deeper(base, store.folder / f"{family}-{finetune}-{layers}", layers), finetune
        )
        for layers in (1, 2)
    )
    return two.beyond(one)


# Of Qwen2's layer: two norms are computed in float32, which is four casts there and four back.
NORMS = 8


def test_adapters_cast_their_weights_alone(store: Store) -> None:
    """Seven adapters of two matrices: each is cast for the products, its gradient back."""
    layer = a_layer(store, "qwen2_vl", "lora")
    assert layer.casts.total() == 7 * 2 * 2 + NORMS
    assert layer.kernels.total() <= 220
    assert layer.attention.total() == 1
    assert layer.waits == 0
