"""Processes that share a model out answer and learn from rewards as one does alone."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from spark_trainer.errors import MachineError
from spark_trainer.runs.spec import RunSpec
from spark_trainer.train import launch, processes, setup
from spark_trainer.train.loop import Trainer
from tests.methods.test_grpo import CLOCK, data, qwen, rft, trained, updates
from tests.train.conftest import (
    _fresh_accelerator,
    checkpoint,
    make,
    manifest,
    metrics,
    write_run,
)
from tests.train.test_memory_plan import group
from tests.train.together import train_together

# Fixtures.
__all__ = ["_fresh_accelerator", "checkpoint", "data", "group", "make", "manifest", "qwen", "rft"]

Lines = list[dict[str, float]]
DIFFERENCE = 0.01  # nats, on average: of log-probabilities drawn by and learnt, in bf16
# Of curves: sums in another order, as between one process and two.
NEAR = {"rel": 1e-3, "abs": 1e-6}
SHARES: dict[str, dict[str, Any]] = {
    "zero2": {"stage": 2},
    # Else what is small stays whole, and all is small.
    "zero3": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "fsdp": {},
}
HELD_OUT = 2  # of four questions, in each of two processes
STARTING_S = 60.0  # of two processes on a busy machine
LORA = {"finetune": "lora", "lora": {"rank": 2}, "learning_rate": 0.01}
# Settings of `rft`, and of the run: a divergence from weights of the start or without adapters.
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full": ({"beta": 0.04, "num_iterations": 2}, {"max_steps": 4}),
    "lora": ({"beta": 0.04, "dynamic_sampling": True}, LORA),
    "bf16": ({"beta": 0.04}, {"mixed_precision": "bf16"}),
}


@pytest.fixture
def shares(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Settings of a run that two processes share out."""

    def shares(name: str) -> dict[str, Any]:
        if name == "fsdp":
            return {"fsdp": True, "cpu_processes": 2}
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"zero_optimization": SHARES[name]}))
        return {"use_deepspeed": True, "deepspeed_config": str(path), "cpu_processes": 2}

    return shares


def small(run: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run whose processes have other numbers of batches, and show their answers."""
    return {"max_steps": 3, "eval_steps": 2, "num_samples": 3, "batch_size": 6} | run


def shown(made: RunSpec) -> list[Any]:
    """All answers that a run shows, with what the rewards say of them."""
    folder = made.folder.path / "samples"
    return [json.loads(path.read_text()) for path in sorted(folder.glob("step_*.json"))]


def texts(made: RunSpec) -> list[list[str]]:
    return [
        [one["generated"], *(answer["text"] for answer in one["answers"])]
        for step in shown(made)
        for one in step
    ]


def curve(made: RunSpec) -> Lines:
    lines = metrics(made.folder.path)
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]


def close(one: Lines, other: Lines, **near: float) -> None:
    for line, same in zip(one, other, strict=True):
        assert line.keys() == same.keys()
        assert same == pytest.approx(line, **near)


@pytest.mark.long
@pytest.mark.parametrize("name", SHARES)
def test_two_that_share_answer_and_learn_as_one(name: str, rft: Any, shares: Any) -> None:
    made = {
        kind: rft(name=f"{name}-{kind}", run=small(run) | shares(name), **settings)
        for kind, (settings, run) in RUNS.items()
    }
    train_together(made.values())
    for kind, (settings, run) in RUNS.items():
        one = rft(name=kind, run=small(run), **settings)
        check = check_precision if kind == "bf16" else check_same
        check(trained(one), one, made[kind])


def check_same(alone: Lines, one: RunSpec, shared: RunSpec) -> None:
    """Show that all that is recorded and said is the same, to rounding."""
    close(alone, curve(shared), **NEAR)
    assert texts(shared) == texts(one)


def check_precision(alone: Lines, one: RunSpec, shared: RunSpec) -> None:
    """Show that answers are learnt in the precision that they were drawn in."""
    for line, same in zip(updates(alone), updates(curve(shared)), strict=True):
        assert same["sampling/logp_difference"] < DIFFERENCE
        assert same["reward"] == pytest.approx(line["reward"], abs=0.1)
        assert same["entropy"] == pytest.approx(line["entropy"], rel=0.01)
    assert len(texts(shared)) == len(texts(one))


@pytest.mark.long
def test_a_process_that_dies_in_a_rollout_ends_the_others_and_the_run_goes_on(
    rft: Any, shares: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process, behind the first of its two groups of the third update."""
    run = small({"checkpoint_steps": 1, "num_samples": 0, "eval_steps": 3}) | shares("zero3")
    calm, killed = (rft("mortal", name=name, run=run, beta=0.04) for name in ("calm", "killed"))
    train_together([calm])
    manifest = Path(killed.settings.manifest_path)
    monkeypatch.setenv("DIES", f"1 {HELD_OUT + 2 * 2 + 1}")
    began = time.monotonic()
    with pytest.raises(MachineError, match="ended by signal 9"):
        launch.fit(killed, manifest, granted_gpus=0, threads=2)
    took = time.monotonic() - began
    steps = [path.name for path in (killed.folder.path / "checkpoints").glob("step_*")]
    assert max(steps) == "step_00000002"
    monkeypatch.delenv("DIES")
    began = time.monotonic()
    launch.fit(killed, manifest, granted_gpus=0, threads=2)
    print("s until all had ended", took, "s of the rest", time.monotonic() - began)
    assert took < STARTING_S + processes.GRACE_SECONDS
    assert curve(killed) == curve(calm)
    weights = load_file(calm.folder.path / "final/model.safetensors")
    again = load_file(killed.folder.path / "final/model.safetensors")
    assert all(again[name].equal(value) for name, value in weights.items())


@pytest.mark.usefixtures("group")
def test_all_weights_are_there_for_a_while_and_then_freed(rft: Any) -> None:
    """And no hook, which would wait for other processes."""
    trainer = Trainer.build(setup.prepare(write_run(rft(run={"fsdp": True}))))
    strategy, model = trainer.updates.strategy, trainer.updates.model
    hooks = [[*one._forward_hooks, *one._forward_pre_hooks] for one in model.modules()]
    assert any(hooks)
    with strategy.gathered():
        assert not any(isinstance(one, DTensor) for one in model.parameters())
        assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())
    assert all(isinstance(one, DTensor) for one in model.parameters())
    assert hooks == [[*one._forward_hooks, *one._forward_pre_hooks] for one in model.modules()]
