"""What a forward and a backward pass of a run take, computed with tensors without content."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch.autograd.graph import _engine_run_backward

from spark_trainer import methods
from spark_trainer.config import Run
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.families.kinds import loading
from spark_trainer.families.kinds.base import Kind
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.reading import Splits
from spark_trainer.methods.base import Method
from spark_trainer.train import flops, living, setup

CPU = torch.device("cpu")
# What upstream's classes raise of sizes that don't fit, or words where a number belongs.
NO_NETWORK = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError)


@dataclass(frozen=True)
class Data:
    """Where the samples of a run are: its manifest, and the folder that its paths start from."""

    manifest: Path
    root: Path


@dataclass(frozen=True)
class Moment:
    """A moment of a pass.

    Attributes:
        held: bytes of all that is neither a weight nor the gradient of one.
        num_gradients: numbers in the parameters whose gradients are complete.
    """

    held: int
    num_gradients: int


@dataclass(frozen=True)
class Pass:
    """A pass over the largest batch, in a process that holds the whole network.

    Attributes:
        loaded: bytes of the network and of everything that is loaded with it.
        frozen: bytes of parameters that don't learn, and of buffers, as they are loaded.
        learnt: bytes of parameters that learn.
        beside: bytes of encoders that stay on the device, beside the network.
        shapes: numbers in each parameter that learns.
        layers: what is repeated in the network, and, last, what isn't.
        keeps_start: whether what learns is there a second time, as it was at the start.
        generating: bytes that generating takes beside the weights, in an update; 0 if it doesn't.
        moments: the worst ones; later ones have more gradients.
        flops: of the pass, without what is recomputed.
        recomputed: FLOPs of what is.
        samples: how many there are to learn from; without any grey ones stood in.
    """

    loaded: int
    frozen: int
    learnt: int
    beside: int
    shapes: tuple[int, ...]
    layers: tuple["Layer", ...]
    keeps_start: bool
    generating: int
    moments: tuple[Moment, ...]
    flops: int
    recomputed: int
    samples: int

    @property
    def num_learnt(self) -> int:
        """Count the numbers that learn."""
        return sum(self.shapes)

    @property
    def num_weights(self) -> int:
        """Count all numbers of the network."""
        return sum(layer.num_weights for layer in self.layers)

    def most(self, gradient_bytes: float, kept: bool) -> int:
        """Return the bytes of the worst moment, gradients included.

        Args:
            gradient_bytes: of a number that learns.
            kept: whether all gradients are there from the beginning.
        """
        total = self.num_learnt
        return max(
            moment.held + int(gradient_bytes * (total if kept else moment.num_gradients))
            for moment in self.moments
        )


@dataclass(frozen=True)
class Layer:
    """A layer that is repeated, or the rest of a network: how many numbers it has."""

    num_weights: int
    num_learnt: int

    @classmethod
    def of(cls, parameters: Iterable[torch.nn.Parameter]) -> "Layer":
        """Count what these parameters have."""
        sizes = [(p.numel(), p.requires_grad) for p in parameters]
        return cls(sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns))


def measured(run: Run, data: Data | None, device: str = "cuda") -> Pass:
    """Send the largest batch of a run forward and backward.

    Args:
        run: the settings.
        data: its samples; without them grey ones stand in.
        device: `cuda` or `cpu`, whose autocast it is.

    Raises:
        ValueError: the checkpoint is of no known family, or can't do what is asked.
        OSError: there is no such checkpoint.
    """
    # What a tower made may not be there yet; to keep it takes less than to make it.
    run = run.model_copy(update={"encode_vision": False})
    method, networks = _without_weights(run)
    model = method.loaded.model
    loaded = _size(tensor for network in networks for tensor in living.weights(network))
    learnt = _size(p for p in model.parameters() if p.requires_grad)
    frozen = _size(living.weights(model)) - learnt
    if run.sharded and (dtype := loading.dtype(run)):
        living.narrow(model, dtype)
    encoders = living.Living()
    with encoders, living.without_content(device):
        parts = _samples(method.run, method.family, data)
        reader, _ = method.readers(parts, CPU, EncodedFiles(Path(), None, ""))
        batch = reader.largest(method.run).to(CPU)
    beside = [tensor for network in reader.resident() for tensor in living.weights(network)]
    counter = flops.Counter()
    with counter:
        found = _moments(method, batch, beside, device)
    if beside and not run.encoded_ahead:
        found = [Moment(encoders.most, 0), *found]
    return Pass(
        loaded=loaded,
        frozen=frozen,
        learnt=learnt,
        beside=_size(beside),
        shapes=tuple(p.numel() for p in model.parameters() if p.requires_grad),
        layers=_layers(model),
        keeps_start=method.keeps_start,
        generating=method.generating_bytes(batch),
        moments=_worst(found),
        flops=counter.total,
        recomputed=counter.recomputed,
        samples=len(reader.samples),
    )


def _without_weights(run: Run) -> tuple[Method, set[torch.nn.Module]]:
    """Return how a run learns, and all networks that it loads, without content."""
    family = setup.find(run)
    run = family.completed(run)
    try:
        loaded = setup.built(run, family, on_meta=True)
    except NO_NETWORK as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"train.model_name: its configuration makes no network: {why}") from error
    return methods.find(run.model_type)(run, family, loaded), living.fill(loaded)


def _samples(run: Run, family: Kind, data: Data | None) -> Splits:
    """Return the samples to train on, none where there is no data."""
    if data is None:
        none = family.samples(Path(), Path(), run)
        return none, none
    found = family.splits(data.manifest, data.root, run)
    return found["train"], found["validation"]


def _moments(method: Method, batch: Batch, beside: list[torch.Tensor], device: str) -> list[Moment]:
    """Return the worst moment before each gradient, and after the last."""
    model = method.loaded.model.train()
    alive = living.Living([*living.weights(model), *beside])
    held, found = alive.now, []
    num_gradients = 0

    def take(parameter: torch.Tensor) -> None:
        nonlocal num_gradients
        found.append(Moment(alive.most - held, num_gradients))
        num_gradients += parameter.numel()
        parameter.grad = None  # counted apart, as strategies hold it in several ways
        alive.most = alive.now

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(take)
    for tensor in batch.tensors.values():
        if isinstance(tensor, torch.Tensor):
            alive.meet(tensor)
    with alive, living.without_content(device):
        there_and_back(method, model, batch)
    return [*found, Moment(alive.most - held, num_gradients)]


def _worst(moments: list[Moment]) -> tuple[Moment, ...]:
    """Return the moments of which no later one, with more gradients, holds as much."""
    found: list[Moment] = []
    for moment in reversed(moments):
        if not found or moment.held > found[-1].held:
            found.append(moment)
    return tuple(reversed(found))


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


def _layers(model: torch.nn.Module) -> tuple[Layer, ...]:
    """Return what FSDP2 gathers together: each repeated layer, and what is left."""
    from spark_trainer.train.strategies.fsdp import layers

    inside = [list(layer.parameters()) for layer in layers(model)]
    known = {parameter for parameters in inside for parameter in parameters}
    rest = [parameter for parameter in model.parameters() if parameter not in known]
    return tuple(Layer.of(parameters) for parameters in [*inside, rest])


def _size(tensors: Iterable[torch.Tensor]) -> int:
    return living.Living(tensors).now
