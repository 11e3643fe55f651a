"""Memory as it is computed against that of tensors which are really there."""

from typing import Any

import pytest
import torch

from spark_trainer.train import data, memory_plan
from spark_trainer.train.living import Living, weights
from spark_trainer.train.loop import Trainer
from spark_trainer.train.memory_pass import Data
from spark_trainer.train.topology import Topology

from .conftest import fresh
from .matrix import DIFFUSION, Cell, Store

NEAR = 0.05
CPU = Topology(1, 1, "cpu")
CELLS = [
    ("blip", "full", "no", False, {}),
    ("blip", "full", "bf16", True, {"optimizer": "adamw_8bit", "ema_decay": 0.9}),
    ("blip", "full", "no", True, {"gradient_accumulation_steps": 3}),
    ("qwen2_vl", "full", "no", True, {"packing": True}),
    ("qwen2_vl", "lora", "bf16", True, {}),
    ("qwen2_vl", "qlora", "bf16", False, {}),
    ("llava", "full", "bf16", False, {"ema_decay": 0.9}),
    ("llava", "lora", "no", True, {}),
    ("animatediff", "full", "no", False, {"optimizer": "adamw_8bit"}),
    ("svd", "lora", "bf16", True, {}),
    ("wan_animate", "lora", "no", True, {}),
    ("wan_animate", "full", "bf16", False, {"ema_decay": 0.9}),
    ("wan_animate", "lora", "no", True, {"encode": "each_step"}),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def of(trainer: Trainer, store: Store) -> memory_plan.Plan:
    """What is computed of a run, by its own samples."""
    planner = memory_plan.Planner(CPU, Data(store.manifest, store.folder / "data"))
    return planner.plan(trainer.run)


def real(trainer: Trainer) -> int:
    """The most bytes that tensors take in a run's second update, reading aside."""
    setup, average = trainer.setup, trainer.updates.average
    beside = [tensor for network in setup.training.resident() for tensor in weights(network)]
    averaged = average.shadow_params if average else []
    alive = Living([*weights(setup.loaded.model), *beside, *averaged])
    sampler = data.sampler(setup.training.samples, trainer.run, setup.accelerator, 0)
    reading = data.training(setup.training, sampler, 0, False)
    for step in (1, 2):
        read = [next(reading) for _ in range(sampler.num_batches)]
        alive.most = alive.now
        for value in read[0].batches[0].tensors.values():  # one batch is on a GPU at a time
            if isinstance(value, torch.Tensor):
                alive.meet(value)
        with alive:
            trainer.updates.make(step, iter(read), sampler.num_batches)
    return alive.most


@pytest.mark.parametrize(
    ("family", "finetune", "precision", "recomputed", "more"),
    CELLS,
    ids=lambda value: " ".join(value) if isinstance(value, dict) else str(value),
)
def test_computed_memory_is_that_of_real_tensors(
    store: Store, family: str, finetune: str, precision: str, recomputed: bool, more: dict[str, Any]
) -> None:
    cell = Cell(family, finetune, precision, recomputed, "ddp")
    ahead = {"encode": "ahead"} if family in DIFFUSION else {}
    trainer = Trainer.build(store.prepare(cell, **{"batch_size": 2} | ahead | more))
    found = real(trainer)
    state = trainer.updates.strategy.optimizer_state().values()
    kept = Living(v for values in state for v in values.values() if isinstance(v, torch.Tensor))
    fresh()
    computed = of(trainer, store)
    assert computed.peak == pytest.approx(found, rel=NEAR)
    assert computed.optimizer == pytest.approx(kept.now, rel=NEAR)
