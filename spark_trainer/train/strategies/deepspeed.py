"""DeepSpeed's ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054)."""

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, DistributedType, InitProcessGroupKwargs
from torch.utils.hooks import RemovableHandle

from spark_trainer.config import Run
from spark_trainer.runs.spec import LaunchedRun
from spark_trainer.train.nest import Snapshot
from spark_trainer.train.strategies import deepspeed_build
from spark_trainer.train.strategies.base import (
    TIMEOUT,
    Context,
    MakeOptimizer,
    join_process_group,
)
from spark_trainer.train.strategies.sharded import Sharded

SHARDS = "optimizer"  # the folder of DeepSpeed's own files in a checkpoint


class DeepSpeed(Sharded):
    """ZeRO of the stage that the run's file names."""

    NAME = "DeepSpeed"

    @classmethod
    def make_accelerator(cls, run: Run, launched: LaunchedRun) -> Accelerator:
        """Return the processes and devices of a run.

        Raises:
            MachineError: another process has begun to compile what DeepSpeed needs, and hangs.
        """
        backend = "gloo" if launched.device == "cpu" else "nccl"
        join_process_group(backend)
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        # On a CPU `cpu=True` would silently mean DDP, and no backend a process that is alone.
        plugin = DeepSpeedPlugin(hf_ds_config=launched.deepspeed, zero3_init_flag=False)
        with deepspeed_build.limited():
            made = Accelerator(
                mixed_precision=run.mixed_precision,
                deepspeed_plugin=plugin,
                kwargs_handlers=[InitProcessGroupKwargs(backend=backend, timeout=TIMEOUT)],
            )
        # Under ZeRO-3 transformers would shard weights as it loads them, frozen encoders included,
        # which no engine gathers later.
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()
        return made

    @property
    def stage(self) -> int:
        return int(self.accelerator.deepspeed_plugin.zero_stage)

    @property
    def shards_weights(self) -> bool:
        return self.stage == 3 and not self.whole

    @property
    def optimizer_layout(self) -> str:
        return f"ZeRO-{self.stage} on {self.accelerator.num_processes} processes"

    def is_active(self) -> bool:
        return bool(self.accelerator.distributed_type == DistributedType.DEEPSPEED)

    def prepare(self, model: Any, make_optimizer: MakeOptimizer) -> Any:
        from spark_trainer.train.strategies.deepspeed_checkpoint import NestEngine

        self.autocast_forward(model)
        engine = super().prepare(model, make_optimizer)
        engine.checkpoint_engine = NestEngine(engine)
        engine._copy_recovery_script = lambda _: None  # it reads pickles
        return engine

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        self.model.set_gradient_accumulation_boundary(last)
        self.model.backward(loss)

    def step(self, weights: list[torch.Tensor]) -> tuple[float, bool]:
        self.model.step()
        return float(self.model.get_global_grad_norm()), not self.optimizer.step_was_skipped

    def gather_root(self) -> Context:
        own = self.accelerator.unwrap_model(self.model).parameters(recurse=False)
        return self._gather(own) if self.shards_weights else contextlib.nullcontext()

    def gather_all(self) -> Context:
        return self._gather(self.accelerator.unwrap_model(self.model).parameters())

    def _gather(self, parameters: Iterable[torch.nn.Parameter]) -> Context:
        from deepspeed.runtime.zero import GatheredParameters

        context: Context = GatheredParameters([*parameters])
        return context

    def hooks(self) -> Iterable[RemovableHandle]:
        """See `Sharded`; the first hook of a pass compares notes with the other processes."""
        ours = self.model.optimizer.parameter_offload
        return [*ours.forward_hooks, *ours.backward_hooks, ours.fwd_pre_hook]

    def held(self, parameter: Any) -> torch.Tensor:
        if not self.shards_weights:
            return super().held(parameter)
        kept: torch.Tensor = parameter.ds_tensor.detach()
        return kept

    def optimizer_state(self) -> dict[Any, dict[str, Any]]:
        state: dict[Any, dict[str, Any]] = self.model.basic_optimizer.state
        return state

    def gather_parameter(self, parameter: Any) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        value: torch.Tensor = safe_get_full_fp32_param(parameter)
        return value

    def snapshot(self, folder: Path) -> dict[Path, Snapshot]:
        self.model.save_checkpoint(str(folder), SHARDS, exclude_frozen_parameters=True)
        held: dict[Path, Snapshot] = self.model.checkpoint_engine.release()
        return held

    def load(self, folder: Path) -> None:
        self.model.load_checkpoint(str(folder), SHARDS, load_module_strict=False)
