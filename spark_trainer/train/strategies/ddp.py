"""Every process holds everything: one alone, or several that exchange gradients (DDP)."""

import contextlib
import math
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from safetensors.torch import load_file

from spark_trainer.config import Run
from spark_trainer.train import nest
from spark_trainer.train.nest import Snapshot, host_copy
from spark_trainer.train.strategies.base import WEIGHTS, Context, Strategy

OPTIMIZER = "optimizer.safetensors"  # in a checkpoint


class DDP(Strategy):
    """PyTorch's DistributedDataParallel, by Accelerate."""

    NAME = "DDP"
    lockstep = False

    @classmethod
    def handlers(cls, run: Run) -> list[Any]:
        # A part that only the user wants trained may hold weights that the loss never reaches, such
        # as the last vision layer below LLaVA's features; DDP waits for them unless it is told.
        # Gradients that lie in the buckets that are exchanged are not held a second time.
        return [
            DistributedDataParallelKwargs(
                find_unused_parameters=run.freeze is not None, gradient_as_bucket_view=True
            )
        ]

    @property
    def optimizer_layout(self) -> str:
        return "whole"

    def is_active(self) -> bool:
        return bool(self.accelerator.distributed_type != DistributedType.DEEPSPEED)

    def autocast(self) -> Context:
        context: Context = self.accelerator.autocast()
        return context

    def accumulate(self, last: bool) -> Context:
        if last:
            return contextlib.nullcontext()
        context: Context = self.accelerator.no_sync(self.model)
        return context

    def step(self, weights: list[torch.Tensor]) -> tuple[float, bool]:
        found = self.accelerator.clip_grad_norm_(weights, self.run.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        norm = float(found)  # the host waits for the GPU, which has all of the update by now
        # Accelerate asks whether the step was called; a fused one is, and leaves itself out inside.
        return norm, self.accelerator.scaler is None or math.isfinite(norm)

    def gather_root(self) -> Context:
        return contextlib.nullcontext()

    def trainable_state_dict(self) -> dict[str, torch.Tensor]:
        if not self.accelerator.is_main_process:
            return {}
        model = self.accelerator.unwrap_model(self.model)
        seen = {p.data_ptr() for p in model.parameters() if not p.requires_grad}
        kept: dict[str, torch.Tensor] = {}
        for name, tensor in model.state_dict().items():
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                kept[name] = host_copy(tensor)
        return kept

    def snapshot(self, folder: Path) -> dict[Path, Snapshot]:
        if not self.accelerator.is_main_process:
            return {}
        return {folder / OPTIMIZER: Snapshot.of(self.optimizer.state_dict())}

    def load(self, folder: Path) -> None:
        model = self.accelerator.unwrap_model(self.model)
        model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
        self.optimizer.load_state_dict(nest.load(folder / OPTIMIZER))
