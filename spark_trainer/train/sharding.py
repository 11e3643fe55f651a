"""How a model lies in the processes: whole in each, or shared out by DeepSpeed or FSDP2.

The loop says what it wants and knows none of them:

    Whole   every process holds everything; several exchange gradients (DDP)
    Zero    DeepSpeed: ZeRO-1 shares the optimizer out, ZeRO-2 gradients too, ZeRO-3 weights too
    Fully   PyTorch's FSDP2: all three; in fsdp.py

Where weights are shared out, a forward pass gathers them layer by layer, so every process must
make as many passes as the others, in training as in evaluation: one that has no batch left repeats
one and throws away what came of it.
"""

import contextlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
)
from safetensors.torch import load_file
from torch._C._distributed_c10d import FileStore

from spark_trainer.config import Run
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.train import builds, group, nest

DTYPES = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}
WEIGHTS = "trainable.safetensors"  # in a checkpoint, whole
OPTIMIZER = "optimizer.safetensors"
SHARES = "optimizer"  # a folder of DeepSpeed's shares


def accelerator(run: Run, order: dict[str, Any]) -> Accelerator:
    """The processes and devices of this run; what it asked for is checked by `setup`.

    Raises:
        MachineError: another process has begun to compile what DeepSpeed needs, and hangs.
    """
    on_cpu = order["device"] == "cpu"
    meet("gloo" if on_cpu else "nccl")
    if not run.use_deepspeed:
        # A part that only the user wants trained may hold weights that the loss never reaches, such
        # as the last vision layer below LLaVA's features; DDP waits for them unless it is told.
        kwargs = DistributedDataParallelKwargs(find_unused_parameters=run.freeze is not None)
        return Accelerator(
            mixed_precision=run.mixed_precision, cpu=on_cpu, kwargs_handlers=[kwargs]
        )
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # On a CPU `cpu=True` would silently mean DDP, and no backend a process that is alone.
    plugin = DeepSpeedPlugin(hf_ds_config=order["deepspeed"], zero3_init_flag=False)
    with builds.limited():
        made = Accelerator(
            mixed_precision=run.mixed_precision,
            deepspeed_plugin=plugin,
            kwargs_handlers=[InitProcessGroupKwargs(backend="gloo" if on_cpu else "nccl")],
        )
    # Under ZeRO-3 transformers would share weights out as it loads them, frozen encoders included,
    # which no engine gathers later.
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    return made


def meet(backend: str) -> None:
    """Form the group of the processes of a single node, by a file: no port is opened for it."""
    place = os.environ
    if group.STORE_VARIABLE not in place or "RANK" not in place:
        return
    rank, world = int(place["RANK"]), int(place["WORLD_SIZE"])
    if world != int(place["LOCAL_WORLD_SIZE"]) or torch.distributed.is_initialized():
        return
    if backend == "nccl":
        torch.cuda.set_device(rank)
    store = FileStore(place[group.STORE_VARIABLE], world)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world)


def of(run: Run, accelerator: Accelerator) -> "Whole":
    """The way of this run."""
    if run.fsdp:
        from spark_trainer.train.fsdp import Fully  # a second of imports that no other way needs

        return Fully(run, accelerator)
    return Zero(run, accelerator) if run.use_deepspeed else Whole(run, accelerator)


class Whole:
    """Every process holds everything."""

    NAME = "whole"
    in_step = False  # whether all processes must make the same number of passes
    shares_weights = False  # whether also those of an evaluation

    def __init__(self, run: Run, accelerator: Accelerator) -> None:
        self.run, self.accelerator = run, accelerator

    @property
    def shares(self) -> str:
        """How the optimizer of a checkpoint is cut up; only the same can go on from it."""
        return "whole"

    def got(self) -> bool:
        """Whether the processes are what was asked for."""
        return bool(self.accelerator.distributed_type != DistributedType.DEEPSPEED)

    def prepare(self, model: Any, make: Callable[[torch.nn.Module], torch.optim.Optimizer]) -> Any:
        """The model as the loop calls it; `make` makes its optimizer."""
        self.model, self.optimizer = self.accelerator.prepare(model, make(model))
        return self.model

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of a forward pass."""
        context: contextlib.AbstractContextManager[Any] = self.accelerator.autocast()
        return context

    def accumulating(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Around a forward and a backward pass; gradients are exchanged at an update's last."""
        if last:
            return contextlib.nullcontext()
        context: contextlib.AbstractContextManager[Any] = self.accelerator.no_sync(self.model)
        return context

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add the gradients of a loss to those of the update; they are averaged over processes."""
        self.accelerator.backward(loss)

    def step(self, weights: list[torch.Tensor]) -> tuple[float, bool]:
        """Clip, update the weights, drop the gradients.

        Returns:
            the norm of the gradients before clipping, and whether the weights moved.
        """
        norm = self.accelerator.clip_grad_norm_(weights, self.run.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm), not self.accelerator.optimizer_step_was_skipped

    def rounds(self, num_batches: int) -> int:
        """How many passes this process has to make in an update: its own, or the most of any."""
        if not self.in_step:
            return num_batches
        number = torch.tensor([num_batches], device=self.accelerator.device)
        return int(self.accelerator.gather(number).max())

    def together(
        self, batches: Iterator[Batch], spare: Callable[[], Batch]
    ) -> Iterator[tuple[Batch, bool]]:
        """This process's batches, each with whether it counts.

        Where weights are shared out, `spare` ones follow until no process has any of its own.
        """
        repeated: Batch | None = None
        while True:
            batch = next(batches, None)
            if self.shares_weights:
                left = torch.tensor([batch is not None], device=self.accelerator.device)
                if not self.accelerator.gather(left.int()).any():
                    return
                if batch is None:
                    repeated = repeated or spare()
                    yield repeated, False
                    continue
            if batch is None:
                return
            yield batch, True

    def outermost(self) -> contextlib.AbstractContextManager[Any]:
        """The weights of the outermost module itself are there, though it is not called.

        As BLIP-2's `generate` reads its query tokens.
        """
        return contextlib.nullcontext()

    def learnt(self) -> dict[str, torch.Tensor]:
        """Trainable parameters and buffers, whole, by name; of tied ones the first.

        All processes must call it; only the main one gets all of it.
        """
        model = self.accelerator.unwrap_model(self.model)
        seen = {p.data_ptr() for p in model.parameters() if not p.requires_grad}
        kept: dict[str, torch.Tensor] = {}
        for name, tensor in model.state_dict().items():
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                kept[name] = tensor.contiguous()
        return kept

    def optimizer_bytes(self) -> list[int]:
        """What the optimizer's state takes in each process; all processes must call it."""
        held = sum(
            value.untyped_storage().nbytes()
            for values in self.state().values()
            for value in values.values()
            if isinstance(value, torch.Tensor)
        )
        number = torch.tensor([held], device=self.accelerator.device)
        numbers: list[int] = self.accelerator.gather(number).tolist()
        return numbers

    def state(self) -> dict[Any, dict[str, Any]]:
        """The optimizer's state in this process."""
        held: dict[Any, dict[str, Any]] = self.optimizer.state
        return held

    def save(self, folder: Path) -> None:
        """Everything that `load` needs beside `learnt`; all processes must call it."""
        if self.accelerator.is_main_process:
            nest.save(folder / OPTIMIZER, self.optimizer.state_dict())

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote, and from `learnt`; all processes must call it."""
        model = self.accelerator.unwrap_model(self.model)
        model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
        self.optimizer.load_state_dict(nest.load(folder / OPTIMIZER))


class Shared(Whole, ABC):
    """What the ways have in common that share something out."""

    in_step = True

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def cast(self, model: Any) -> None:
        """Let every forward pass of a network run in the run's precision, whoever calls it.

        Inside of what DeepSpeed does around one: on a GPU that ends the precision of its callers,
        and norms would be computed in 16 bits. What shows texts and videos calls the network alone.
        """
        if dtype := DTYPES[self.run.mixed_precision]:
            context = torch.autocast(self.accelerator.device.type, dtype)
            model.forward = context(model.forward)

    @property
    def shares(self) -> str:
        return f"{self.NAME} on {self.accelerator.num_processes} processes"

    def learnt(self) -> dict[str, torch.Tensor]:
        model, main = self.accelerator.unwrap_model(self.model), self.accelerator.is_main_process
        kept: dict[str, torch.Tensor] = {}
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                value = self.gathered(parameter)
                if main:
                    kept[name] = value.detach().to("cpu", copy=True).contiguous()
        buffers = {n: t for n, t in model.state_dict().items() if n not in parameters}
        return kept | {name: tensor.cpu().contiguous() for name, tensor in buffers.items()}

    @abstractmethod
    def gathered(self, parameter: Any) -> torch.Tensor:
        """A parameter in whole and in float32; all processes must call it."""


class Zero(Shared):
    """DeepSpeed's ZeRO."""

    NAME = "DeepSpeed"

    @property
    def stage(self) -> int:
        return int(self.accelerator.deepspeed_plugin.zero_stage)

    @property
    def shares_weights(self) -> bool:  # type: ignore[override]
        return self.stage == 3

    @property
    def shares(self) -> str:
        return f"ZeRO-{self.stage} on {self.accelerator.num_processes} processes"

    def got(self) -> bool:
        return bool(self.accelerator.distributed_type == DistributedType.DEEPSPEED)

    def accumulating(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        self.model.set_gradient_accumulation_boundary(last)
        self.model.backward(loss)

    def step(self, weights: list[torch.Tensor]) -> tuple[float, bool]:
        self.model.step()
        return float(self.model.get_global_grad_norm()), not self.optimizer.step_was_skipped

    def outermost(self) -> contextlib.AbstractContextManager[Any]:
        from deepspeed.runtime.zero import GatheredParameters

        own = list(self.accelerator.unwrap_model(self.model).parameters(recurse=False))
        context: contextlib.AbstractContextManager[Any] = GatheredParameters(
            own, enabled=self.shares_weights
        )
        return context

    def state(self) -> dict[Any, dict[str, Any]]:
        held: dict[Any, dict[str, Any]] = self.model.basic_optimizer.state
        return held

    def gathered(self, parameter: Any) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        value: torch.Tensor = safe_get_full_fp32_param(parameter)
        return value

    def prepare(self, model: Any, make: Callable[[torch.nn.Module], torch.optim.Optimizer]) -> Any:
        from spark_trainer.train.shards import Nests

        self.cast(model)
        engine = super().prepare(model, make)
        engine.checkpoint_engine = Nests(engine)
        engine._copy_recovery_script = lambda _: None  # it reads pickles
        return engine

    def save(self, folder: Path) -> None:
        self.model.save_checkpoint(str(folder), SHARES, exclude_frozen_parameters=True)

    def load(self, folder: Path) -> None:
        self.model.load_checkpoint(str(folder), SHARES, load_module_strict=False)
