"""Layers that share few graphs are compiled for training, and for nothing else."""

from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.families.kinds import compiling
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.train import flops
from tests.families import tiny, tiny_pipelines
from tests.families.parity import batch_of, seeded
from tests.families.test_wan_animate import material


class Layer(torch.nn.Module):
    """A layer that is repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x))


def test_layers_share_a_graph_and_evaluations_take_none(graphs: CompileCounter) -> None:
    layers = torch.nn.Sequential(*(Layer() for _ in range(3)))
    expected = layers(torch.ones(2, 4, requires_grad=True))
    compiling.compile_layers(list(layers))
    layers.eval()(torch.ones(2, 4))
    layers.train()
    with flops.Counter() as counter:
        layers(torch.ones(2, 4, requires_grad=True))
    assert counter.total == 3 * 2 * 2 * 4 * 4
    assert graphs.frame_count == 0
    for length in range(2, 20):
        found = layers(torch.ones(length, 4, requires_grad=True))
    assert found[:2].equal(expected)
    assert graphs.frame_count == 1


def test_blocks_of_a_diffusion_network_compile_for_all_shapes(
    graphs: CompileCounter, tmp_path: Path
) -> None:
    folder = tiny_pipelines.wan_animate(tmp_path / "wan")
    family, results = families.find(str(folder)), []
    for compiled in (True, False):
        loaded = family.load(str(folder), LoadOptions())
        torch.manual_seed(0)
        family.add_adapters(loaded.model, Run(finetune="lora"))
        family.checkpoint_gradients(loaded.model)
        loaded.model.train()
        if compiled:
            family.compile_layers(loaded)
        for frames in (13, 5, 9):
            batch = batch_of(family, loaded, [material(1, frames), material(2, frames)])
            loss = family.losses(loaded, loaded.model, batch, seeded(1, 2)).sum()
            loss.backward()
            results.append(loss.item())
    assert results[:3] == results[3:]
    assert 0 < graphs.frame_count <= 2


def test_a_model_whose_layers_nobody_has_counted_is_refused(tmp_path: Path) -> None:
    folder = tiny.blip(tmp_path / "blip")
    family = families.find(str(folder))
    with pytest.raises(ValueError, match=r"train\.compile: .* no layers of BlipForCond"):
        family.compile_layers(family.load(str(folder), LoadOptions()))
