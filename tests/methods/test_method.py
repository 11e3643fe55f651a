"""A method that is not supervised fits in: it has the live model before anything is counted, and
more may be better."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from spark_trainer import methods
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.methods.base import Update
from spark_trainer.methods.grpo import GRPO
from spark_trainer.methods.supervised import Supervised
from spark_trainer.metrics.objective import Objective
from spark_trainer.train import setup
from spark_trainer.train.loop import Trainer
from tests.train.conftest import checkpoint, make, manifest, metrics, write_run

__all__ = ["checkpoint", "make", "manifest"]  # fixtures


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@dataclass(frozen=True)
class Rewarded(Supervised):
    """Scores what it read with the model that learns, and learns from the half that it finds
    hardest; the more it says like the answers, the better."""

    objective = Objective("held_out_reward", "higher", "held-out reward")
    scored: list[int] = field(default_factory=list)

    def prepare(self, model: Any, update: Update) -> list[Batch]:
        batches = super().prepare(model, update)
        with torch.no_grad():
            scores = [float(self.loss(model, batch)) / batch.num_targets for batch in batches]
        order = sorted(range(len(batches)), key=scores.__getitem__, reverse=True)
        kept = [batches[number] for number in order[: len(batches) // 2]]
        self.scored.append(sum(batch.num_targets for batch in kept))
        return kept

    def held_out(self, model: Any, batch: Batch) -> torch.Tensor:
        return -self.loss(model, batch)


def rewarded(folder: Path) -> tuple[Trainer, Rewarded]:
    start = setup.prepare(folder)
    method = Rewarded(start.run, start.method.family, start.loaded)
    return Trainer.build(replace(start, method=method)), method


def test_the_best_is_the_highest_reward(make: Any) -> None:
    """A rate that soon makes things worse."""
    settings = {"learning_rate": 0.02, "schedule": "constant", "max_steps": 200, "eval_steps": 2}
    settings |= {"early_stopping": 3, "final": "best", "batch_size": 2, "num_samples": 0}
    folder = write_run(make(gradient_accumulation_steps=2, **settings))
    trainer, method = rewarded(folder)
    trainer.train()
    lines = metrics(folder)
    rewards = {x["step"]: x["held_out_reward"] for x in lines if "held_out_reward" in x}
    assert not any("held_out_loss" in line for line in lines)
    summary = json.loads((folder / "trained.json").read_text())
    best = max(rewards, key=rewards.__getitem__)
    assert (summary["best_step"], summary["best_reward"]) == (best, rewards[best])
    assert 0 < best < summary["steps"] < 200
    assert f"no higher held-out reward since update {best}" in (folder / "train.log").read_text()
    assert len(method.scored) == summary["steps"]


def test_targets_are_counted_after_a_method_made_its_batches(make: Any) -> None:
    """The loss of an update is the mean over what was kept, not over what was read."""
    folder = write_run(make(batch_size=2, gradient_accumulation_steps=2, max_steps=1))
    trainer, method = rewarded(folder)
    losses = []
    plain = type(trainer.setup.method.family).loss

    def noted(*arguments: Any) -> torch.Tensor:
        loss = plain(trainer.setup.method.family, *arguments)
        losses.append((loss.requires_grad, float(loss.detach())))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.setup.method.family, "loss", noted)
        trainer.train()
    [learnt] = [value for differentiated, value in losses if differentiated]
    [line] = [line for line in metrics(folder) if "loss" in line]
    assert line["loss"] == pytest.approx(learnt / method.scored[0], rel=1e-6)


def test_each_model_type_has_its_method() -> None:
    for model_type in ("vision_language", "diffusion", "asr"):
        assert methods.find(model_type) is Supervised
    assert methods.find("rft") is GRPO
    with pytest.raises(ValueError, match=r"train\.model_type: no method trains raft"):
        methods.find("raft")
