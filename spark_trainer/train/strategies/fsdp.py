"""A model sharded by PyTorch's FSDP2 (Zhao et al. 2023, arXiv:2304.11277).

By torch's own call: Accelerate's plugin takes no CPU, and nothing of it could be tested there.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.hooks import RemovableHandle

from spark_trainer.families.kinds import loading
from spark_trainer.train import nest
from spark_trainer.train.nest import Snapshot
from spark_trainer.train.strategies.base import WEIGHTS, Context, MakeOptimizer
from spark_trainer.train.strategies.sharded import Sharded


class FSDP(Sharded):
    """`fully_shard` over every repeated layer, then over what is left."""

    NAME = "FSDP2"

    @property
    def shards_weights(self) -> bool:
        return not self.whole

    def is_active(self) -> bool:
        return torch.distributed.is_initialized()

    def prepare(self, model: Any, make_optimizer: MakeOptimizer) -> Any:
        self.autocast_forward(model)
        where = self.accelerator.device
        options: dict[str, Any] = {
            "mesh": init_device_mesh(where.type, (self.accelerator.num_processes,)),
            "mp_policy": MixedPrecisionPolicy(
                param_dtype=loading.dtype(self.run),
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,  # timesteps would lose what tells them apart
            ),
        }
        for layer in layers(model):  # each is moved to its device and cut up, one by one
            fully_shard(layer, **options)
        self.model = fully_shard(model, **options)
        self.optimizer = make_optimizer(model)
        return model

    def accumulate(self, last: bool) -> Context:
        """See `Strategy`; where all weights learn each pass exchanges.

        Gradients that wait for the last pass are whole, and in float32: 28 GB of 7 billion weights.
        """
        if self.run.finetune != "full":
            self.model.set_requires_gradient_sync(last)
        return contextlib.nullcontext()

    def step(self, weights: list[torch.Tensor]) -> tuple[float, bool]:
        norm: Any = torch.nn.utils.clip_grad_norm_(weights, self.run.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm.full_tensor()), True

    def gather_root(self) -> Context:
        self.model.unshard()  # until the next backward pass
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def gather_all(self) -> Iterator[None]:
        self.model._get_fsdp_state()._lazy_init()  # as the first pass does
        self._reshard()
        for module in self._sharded:
            module.unshard()
        try:
            yield
        finally:
            self._reshard()

    def hooks(self) -> Iterable[RemovableHandle]:
        for module in self._sharded:
            state: Any = module._get_fsdp_state()
            yield state._pre_forward_hook_handle
            yield state._post_forward_hook_handle

    def held(self, parameter: Any) -> torch.Tensor:
        kept: torch.Tensor = parameter.detach().to_local()
        return kept

    @property
    def _sharded(self) -> list[FSDPModule]:
        return [module for module in self.model.modules() if isinstance(module, FSDPModule)]

    def _reshard(self) -> None:
        """Free all that is gathered: a pass without a backward one leaves the outermost so."""
        for module in self._sharded:
            module.reshard()

    def trainable_state_dict(self) -> dict[str, torch.Tensor]:
        self._reshard()
        return super().trainable_state_dict()

    def optimizer_state(self) -> dict[Any, dict[str, Any]]:
        return {
            parameter: {name: _local(value) for name, value in values.items()}
            for parameter, values in super().optimizer_state().items()
        }

    def gather_parameter(self, parameter: Any) -> torch.Tensor:
        value: torch.Tensor = parameter.full_tensor()
        return value

    def snapshot(self, folder: Path) -> dict[Path, Snapshot]:
        state = self.optimizer.state_dict()
        for number, values in state["state"].items():
            state["state"][number] = {name: _local(value) for name, value in values.items()}
        return {folder / self._shard_file: Snapshot.of(state)}

    def load(self, folder: Path) -> None:
        whole: dict[str, Any] = load_file(folder / WEIGHTS)
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(self.model, whole, options=options)
        state = nest.load(folder / self._shard_file)
        groups = self.optimizer.param_groups
        for number, parameter in enumerate(p for group in groups for p in group["params"]):
            values = state["state"].get(number, {})
            state["state"][number] = {k: _distributed(v, parameter) for k, v in values.items()}
        self.optimizer.load_state_dict(state)

    @property
    def _shard_file(self) -> str:
        """Name the file of this process's part of the optimizer's state."""
        return f"optimizer_{self.accelerator.process_index}.safetensors"


def _local(value: Any) -> Any:
    """Return the part of a value that this process holds."""
    return value.to_local() if isinstance(value, DTensor) else value


def _distributed(value: Any, parameter: Any) -> Any:
    """Return what `_local` took out of a parameter's state, as a part of it again."""
    if not isinstance(value, torch.Tensor) or value.shape != parameter.to_local().shape:
        return value
    where = parameter.device_mesh, parameter.placements
    shape = {"shape": parameter.shape, "stride": parameter.stride()}
    return DTensor.from_local(value.to(parameter.device), *where, run_check=False, **shape)


def layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the repeated layers of a network: what its outermost lists of modules hold."""
    found: dict[str, torch.nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and not any(
            name.startswith(f"{above}.") for above in found
        ):
            found |= {f"{name}.{number}": layer for number, layer in enumerate(module)}
    return list(found.values())
