"""What DDP holds beside the weights."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from spark_trainer.config import Run
from spark_trainer.train.strategies.ddp import DDP


@pytest.fixture
def _group() -> Iterator[None]:
    """A process that is alone in a group."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_group")
def test_gradients_are_held_once() -> None:
    """They lie in the buckets that are exchanged, one beside the other."""
    [options] = DDP.handlers(Run())
    layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    model = DistributedDataParallel(layers, **options.to_kwargs())
    for _ in range(2):  # the first pass orders the buckets
        model.zero_grad()
        model(torch.randn(2, 8)).sum().backward()
    gradients = [p.grad for p in layers.parameters() if p.grad is not None]
    assert len(gradients) == 4
    assert len({one.untyped_storage().data_ptr() for one in gradients}) == 1
