"""How often FSDP2 exchanges gradients, and what it does around compiled layers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.distributed.fsdp._fully_shard._fsdp_collectives import foreach_reduce

from spark_trainer.data.files import read_json
from spark_trainer.train import processes
from spark_trainer.train.loop import Trainer
from spark_trainer.train.strategies.base import STORE_VARIABLE
from spark_trainer.train.topology import Topology
from tests.train.conftest import fresh, metrics, write_run
from tests.train.matrix import Cell, Store
from tests.train.strategies.test_strategies import (
    ABSOLUTE,
    Make,
    alone,
    close,
    films,
    of,
    strategy,
    weights,
)

__all__ = ["films", "of", "strategy"]  # fixtures

NUM_PASSES = 3
# All of torch's compiler but the making of code; `inductor`, by which it passes too, takes a minute
# and more to compile C++.
BACKEND = "aot_eager_decomp_partition"
GROUP = "torch.distributed.fsdp._fully_shard._fsdp_param_group"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Of runs of a process that is alone in its group."""
    for name, value in Topology(1, 1, "cpu").environments()[0].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "rendezvous"))
    yield Store(tmp_path)
    torch.distributed.destroy_process_group()


def gradients(store: Store, cell: Cell, **settings: Any) -> list[torch.Tensor]:
    """Those of one batch."""
    start = store.prepare(cell, peak_tflops=None, **settings)
    updates = Trainer.build(start).updates
    [batch] = updates.reader[[0]].batches
    torch.manual_seed(0)
    updates._backward([batch], torch.tensor(batch.num_targets))
    found: list[Any] = [p.grad for p in updates.weights if p.grad is not None]
    fresh()
    return [gradient.full_tensor() for gradient in found]


def exchanges(store: Store, finetune: str, num_passes: int) -> tuple[int, list[torch.Tensor]]:
    """Exchanges of gradients in an update of so many passes over one batch, and the gradients."""
    start = store.prepare(Cell("qwen2_vl", finetune, "no", False, "fsdp"), peak_tflops=None)
    updates = Trainer.build(start).updates
    [batch] = updates.reader[[0]].batches
    with patch(f"{GROUP}.foreach_reduce", wraps=foreach_reduce) as counted:
        updates._backward([batch] * num_passes, torch.tensor(num_passes * batch.num_targets))
    gradients: list[Any] = [p.grad for p in updates.weights if p.grad is not None]
    fresh()
    return counted.call_count, [gradient.full_tensor() for gradient in gradients]


@pytest.mark.parametrize(("finetune", "more"), [("lora", 1), ("full", NUM_PASSES)])
def test_adapters_exchange_once_in_an_update(finetune: str, more: int, store: Store) -> None:
    """Where all weights learn, each pass does; the gradients are the same."""
    count, once = exchanges(store, finetune, 1)
    assert count > 0
    many, gradients = exchanges(store, finetune, NUM_PASSES)
    assert many == more * count
    assert len(gradients) == len(once) > 0
    for gradient, other in zip(gradients, once, strict=True):
        assert gradient.allclose(other, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_weights_are_gathered_around_a_compiled_layer(store: Store, graphs: CompileCounter) -> None:
    cell = Cell("wan_animate", "lora", "bf16", True, "fsdp")
    plain, compiled = gradients(store, cell), gradients(store, cell, compile="layers")
    assert 0 < graphs.frame_count <= 3
    assert len(compiled) == len(plain) > 0
    assert all(map(torch.equal, compiled, plain))


@pytest.mark.long
def test_two_that_compile_equal_one_that_does_not(of: Make, strategy: Any) -> None:
    """Stopped in between; rows are of several lengths."""
    adapters = {"finetune": "lora", "lora": {"rank": 2}, "gradient_checkpointing": True}
    one = alone(of("one", "qwen2_vl", **adapters))
    two = of("two", "qwen2_vl", compile="layers", **adapters, **strategy("fsdp"))
    folder = write_run(two, processes=2)
    program = ["-m", "tests.train.compiled", str(folder), BACKEND]
    assert processes.start(program, two.settings, Topology(1, 2, "cpu"), 2, None).status == 0
    close(metrics(one.folder.path), metrics(folder))
    ours, exact = weights(two), weights(one)
    assert ours.keys() == exact.keys()
    assert max((ours[key] - exact[key]).abs().max().item() for key in exact) < ABSOLUTE
    for rank in range(2):
        for count in read_json(folder / f"graphs_{rank}.json"):
            assert 0 < count <= 3 * 2  # layers that see, and layers that write
