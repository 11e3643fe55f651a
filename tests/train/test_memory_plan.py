"""Memory as it is computed against that of tensors which are really there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spark_trainer.train import data, memory_plan
from spark_trainer.train.living import Living, weights
from spark_trainer.train.loop import Trainer
from spark_trainer.train.memory_pass import Data
from spark_trainer.train.topology import STORE_VARIABLE, Topology

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
    ("whisper", "full", "no", False, {}),
    ("whisper", "full", "bf16", False, {"freeze": ["encoder"]}),
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
    return planner(store).plan(trainer.run)


def planner(store: Store, topology: Topology = CPU) -> memory_plan.Planner:
    """What plans runs over the samples of a store."""
    return memory_plan.Planner(topology, Data(store.manifest, store.folder / "data"))


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


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that is alone in its group."""
    for name, value in CPU.environments()[0].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "rendezvous"))
    yield
    torch.distributed.destroy_process_group()


def test_gradients_of_several_processes_are_kept(store: Store, group: None) -> None:
    """DDP keeps them in its buckets, which a group of one has too."""
    cell = Cell("animatediff", "full", "bf16", True, "ddp")
    trainer = Trainer.build(store.prepare(cell, batch_size=2, encode="ahead"))
    found = real(trainer)
    fresh()
    two = trainer.run.model_copy(update={"global_batch_size": 4})
    plans = planner(store, Topology(1, 2, "cpu"))
    assert plans.plan(two).peak == pytest.approx(found, rel=NEAR)
    assert plans.plan(two).peak > 1.05 * planner(store).plan(trainer.run).peak


def test_shares_of_eight_processes(store: Store, tmp_path: Path) -> None:
    """An eighth of what is shared out, and what a strategy needs beside it."""
    run = store.prepare(Cell("qwen2_vl", "full", "bf16", True, "ddp"), batch_size=1).run
    run = run.model_copy(update={"global_batch_size": 8})
    fresh()
    plans = planner(store, Topology(1, 8, "cpu"))
    file = tmp_path / "zero.json"

    def by(stage: int, **offloaded: Any) -> memory_plan.Plan:
        zero = {"stage": stage, "reduce_bucket_size": 1000, "stage3_max_live_parameters": 1000}
        file.write_text(json.dumps({"zero_optimization": zero | offloaded}))
        update = {"use_deepspeed": True, "deepspeed_config": str(file)}
        return plans.plan(run.model_copy(update=update))

    ddp, fsdp = plans.plan(run), plans.plan(run.model_copy(update={"fsdp": True}))
    number = ddp.gradients // 4
    assert (fsdp.gradients, fsdp.optimizer) == (number // 2, number)
    assert fsdp.weights == ddp.weights // 8
    two, three = by(2), by(3)
    assert two.gradients == three.gradients == number // 4
    assert two.optimizer == three.optimizer == 12 * (number // 8)
    assert three.weights == two.weights // 8
    assert two.weights == pytest.approx(ddp.weights / 2, rel=NEAR)
    away = by(3, offload_param={"device": "cpu"}, offload_optimizer={"device": "cpu"})
    assert away.weights == away.gradients == away.optimizer == 0
    assert away.peak <= three.peak < two.peak < ddp.peak
    assert three.peak >= two.weights  # DeepSpeed begins with the whole model on each GPU
