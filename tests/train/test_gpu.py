"""On a GPU every family learns as on a CPU, in every precision and way of learning.

    uv run pytest -m gpu
    SPARK_TRAINER_TEST_DEVICE=cpu uv run pytest -m gpu    # a CPU stands in for the GPU

Two updates, from the same weights, samples and draws of chance as in float32 on the CPU. Nothing
in the tiny checkpoints drops out: a GPU draws other numbers for that.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from spark_trainer.train.loop import Trainer
from tests.families import tiny

from .conftest import fresh
from .matrix import DIFFUSION, FAMILIES, WRITES, Cell, Store

DEVICE = os.environ.get("SPARK_TRAINER_TEST_DEVICE", "cuda")
# How far a loss may be from that of float32 on the CPU, of it. A CPU's bf16 was at most 2.5e-3 off;
# a GPU rounds what goes into convolutions to TF32, which has as many bits as fp16, three more.
APART = {"no": 1e-3, "fp16": 3e-3, "bf16": 1e-2}
TUNES = ("full", "lora", "qlora")


def case(family: str, finetune: str, precision: str) -> Cell:
    """Adapters with gradient checkpointing, all weights without."""
    return Cell(family, finetune, precision, finetune != "full", "ddp")


CASES = [
    case(family, finetune, precision)
    for family in FAMILIES
    for finetune in (TUNES if family in WRITES else TUNES[:2])
    for precision in APART
]


@dataclass
class Losses:
    """The losses of runs, and what was computed already of those on a CPU in float32."""

    store: Store
    exact: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def of(self, cell: Cell, device: str) -> list[float]:
        """Of each update and each evaluation of a run."""
        start = self.store.prepare(cell, device, model_name=str(self._checkpoint(cell.family)))
        Trainer.build(start).train()
        fresh()
        lines = [json.loads(line) for line in start.folder.metrics.read_text().splitlines()]
        names = ("loss", "held_out_loss")
        found = [line[name] for line in lines for name in names if name in line]
        assert len(found) == 4
        # What comes after an update that fp16 had to leave out is learnt from one update less.
        overflowed = [number for number, line in enumerate(lines) if "overflowed" in line]
        return found[: overflowed[0] + 1] if overflowed else found

    def expected(self, cell: Cell) -> list[float]:
        """Of the same run on a CPU in float32."""
        finetune = str(cell.settings["finetune"])
        key = cell.family, finetune
        if key not in self.exact:
            self.exact[key] = self.of(case(*key, "no"), "cpu")
        return self.exact[key]

    def _checkpoint(self, family: str) -> Path:
        base = self.store.checkpoint(family)
        if family in DIFFUSION:
            return base
        still = base.with_name(f"{family}-still")
        return still if still.exists() else tiny.dropping(base, still, 0.0)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Losses:
    return Losses(Store(tmp_path_factory.mktemp("gpu")))


@pytest.mark.parametrize(
    ("cell", "device"),
    [
        *(pytest.param(cell, DEVICE, marks=pytest.mark.gpu, id=str(cell)) for cell in CASES),
        pytest.param(case("llava", "lora", "bf16"), "cpu", id="on a CPU"),
    ],
)
def test_losses_are_those_of_a_cpu(cell: Cell, device: str, losses: Losses) -> None:
    precision = str(cell.settings["mixed_precision"])
    _skip_what_cannot_run(cell, device)
    expected, found = losses.expected(cell), losses.of(cell, device)
    apart = max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=False))
    print(f"{cell} on {device}: {apart:.1e} of {expected}")
    assert apart <= APART[precision], (found, expected)


def _skip_what_cannot_run(cell: Cell, device: str) -> None:
    precision = cell.settings["mixed_precision"]
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    if device == "cpu" and precision == "fp16":
        pytest.skip("fp16 needs a GPU")
    emulated = device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" and emulated:
        pytest.skip("this GPU has no bf16")
    if cell.settings["finetune"] == "qlora":
        pytest.importorskip("bitsandbytes")
