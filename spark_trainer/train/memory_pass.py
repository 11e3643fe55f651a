"""What a forward and a backward pass of a run take, computed with tensors without content."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch.autograd.graph import _engine_run_backward

from spark_trainer import methods
from spark_trainer.config import Run
from spark_trainer.data import dataset
from spark_trainer.data.encoded import Store
from spark_trainer.families.kinds import loading
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.reading import Parts, Reader
from spark_trainer.methods.base import Method
from spark_trainer.train import living, setup

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Data:
    """Where the samples of a run are: its manifest, and the folder that its paths start from."""

    manifest: Path
    root: Path


@dataclass(frozen=True)
class Pass:
    """Bytes of a pass over the largest batch, in a process that holds the whole network.

    Attributes:
        frozen: parameters that don't learn, buffers, and encoders beside the network.
        learnt: parameters that learn.
        shapes: numbers in each parameter that learns.
        num_frozen: numbers in the parameters that don't, one for each four bits.
        layers: bytes of each repeated layer, the largest first, and of what is left.
        over: what the worst moment takes beyond weights, and beyond the gradients of the batches
            before where the pass is not an update's first.
    """

    frozen: int
    learnt: int
    shapes: tuple[int, ...]
    num_frozen: int
    layers: tuple[int, ...]
    over: int

    @property
    def num_learnt(self) -> int:
        """Count the numbers that learn."""
        return sum(self.shapes)


def measured(run: Run, data: Data | None, accumulates: bool, device: str = "cuda") -> Pass:
    """Send the largest batch of a run forward and backward.

    Args:
        run: the settings.
        data: its samples; without them grey ones stand in.
        accumulates: whether an update has more passes than one, so that gradients are there.
        device: `cuda` or `cpu`, whose autocast it is.

    Raises:
        ValueError: the checkpoint is of no known family, or can't do what is asked.
        OSError: there is no such checkpoint.
    """
    family = setup.find(run)
    run = family.completed(run)
    loaded = setup.built(run, family, on_meta=True)
    dtype = loading.dtype(run)
    if run.sharded and dtype:
        for parameter in loaded.model.parameters():
            parameter.data = parameter.data.to(dtype)
    living.fill(loaded)
    method = methods.find(run.model_type)(run, family, loaded)
    encoders = living.Living()
    with encoders, living.without_content(device):
        reader, _ = method.readers(_samples(run, family, data), CPU, Store(Path(), None))
        batch = reader.largest(run).to(CPU)
    found = _pass(method, reader, batch, accumulates, device)
    if run.encoded_ahead or not reader.resident():
        return found
    return replace(found, over=max(found.over, encoders.most))


def _samples(run: Run, family: Kind, data: Data | None) -> Parts:
    """Return the samples to train on, none where there is no data."""
    if data is None:
        none = dataset.VideoFrameDataset(Path(), Path(), run, family.one_frame, family.needs)
        return none, none
    found = dataset.read(data.manifest, data.root, run, family.one_frame, family.needs)
    return found["train"], found["validation"]


def _pass(method: Method, reader: Reader, batch: Batch, accumulates: bool, device: str) -> Pass:
    model = method.loaded.model.train()
    learnt = [p for p in model.parameters() if p.requires_grad]
    beside = [tensor for network in reader.resident() for tensor in living.weights(network)]
    alive = living.Living([*living.weights(model), *beside])
    held = alive.now
    if accumulates:
        for parameter in learnt:
            parameter.grad = torch.empty_like(parameter)
            alive.meet(parameter.grad)
    before = alive.now
    for tensor in batch.tensors.values():
        if isinstance(tensor, torch.Tensor):
            alive.meet(tensor)
    with alive, living.without_content(device):
        there_and_back(method, model, batch)
    size = sum(p.untyped_storage().nbytes() for p in learnt)
    return Pass(
        frozen=held - size,
        learnt=size,
        shapes=tuple(p.numel() for p in learnt),
        num_frozen=sum(_numbers(p) for p in model.parameters() if not p.requires_grad),
        layers=_layers(model),
        over=alive.most - before,
    )


def there_and_back(method: Method, model: Any, batch: Batch) -> None:
    """Go forward and backward in the precision in which the run's strategy does."""
    run, dtype = method.run, loading.dtype(method.run)
    plain = model.forward
    if dtype:
        model.forward = torch.autocast("cpu", dtype)(plain)
        if not run.sharded:
            model.forward = convert_outputs_to_fp32(model.forward)
    with _autocast(dtype if not run.sharded else None):
        loss = method.loss(model, batch)
    # `loss.backward` leaves function modes, so what is recomputed would not be as on a GPU.
    _engine_run_backward((loss,), (torch.ones_like(loss),), False, False, (), accumulate_grad=True)
    model.forward = plain


@contextlib.contextmanager
def _autocast(dtype: torch.dtype | None) -> Iterator[None]:
    with torch.autocast("cpu", dtype) if dtype else contextlib.nullcontext():
        yield


def _numbers(parameter: torch.nn.Parameter) -> int:
    return parameter.numel() * (2 if hasattr(parameter, "quant_state") else 1)


def _layers(model: torch.nn.Module) -> tuple[int, ...]:
    """Return the bytes of what FSDP2 gathers together: each repeated layer, and what is left."""
    from spark_trainer.train.strategies.fsdp import layers

    each = [_size(list(layer.parameters())) for layer in layers(model)]
    rest = _size(list(model.parameters())) - sum(each)
    return (*sorted(each, reverse=True), rest)


def _size(parameters: Sequence[torch.nn.Parameter]) -> int:
    return sum(p.untyped_storage().nbytes() for p in parameters)
