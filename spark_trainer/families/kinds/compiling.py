"""Layers that are compiled one by one: all layers of a class share their graphs.

Two graphs of a class were counted, over rows and clips of any length: what comes before the first
adapter needs no gradient, what comes after it does. FSDP2 adds one, whose input is a view. torch
makes eight, and then compiles no more.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Forward = Callable[..., Any]


def compile_layers(layers: "Sequence[torch.nn.Module]") -> None:
    """Compile what layers of a model compute in training; evaluations take them as they are."""
    import torch

    # A layer's gradients are exchanged when its graph is done; none is cut to do so earlier.
    torch._dynamo.config.optimize_ddp = False
    replace(layers, _compiled)


def replace(layers: "Sequence[torch.nn.Module]", other: Callable[[Forward], Forward]) -> None:
    """Let layers compute what is made, once for each class, of what its layers compute.

    Gradient checkpointing stays around it, so that is computed again.
    """
    classes = {kind: _replaced(kind, other) for kind in set(map(type, layers))}
    for layer in layers:
        layer.__class__ = classes[type(layer)]


def _replaced(
    layer_class: "type[torch.nn.Module]", other: Callable[[Forward], Forward]
) -> "type[torch.nn.Module]":
    from transformers.modeling_layers import GradientCheckpointingLayer

    plain: Any = layer_class.forward
    if issubclass(layer_class, GradientCheckpointingLayer):
        plain = plain.__wrapped__  # each subclass is given what checkpoints it, so is the new one
    names = {"forward": other(plain), "__module__": layer_class.__module__}
    made: type[Any] = type(layer_class.__name__, (layer_class,), names)
    return made


def _compiled(plain: Forward) -> Forward:
    """Return a `forward` that is compiled for training, with every length as a variable."""
    import torch
    from torch.utils._python_dispatch import is_in_torch_dispatch_mode

    fast = torch.compile(plain, dynamic=True)

    def forward(self: Any, *args: Any, **options: Any) -> Any:
        # What counts operations, as those of an update are, would not see those of a graph.
        counted = is_in_torch_dispatch_mode(include_infra_modes=False)
        return (fast if self.training and not counted else plain)(self, *args, **options)

    return forward
