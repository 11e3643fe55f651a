"""Layers that are compiled one by one: all layers of a class share their graphs.

Two graphs of a class were counted, over rows and clips of any length: what comes before the first
adapter needs no gradient, what comes after it does. FSDP2 adds one, whose input is a view. torch
makes eight, and then compiles no more.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def compile_layers(layers: "Sequence[torch.nn.Module]") -> None:
    """Compile what layers of a model compute in training; evaluations take them as they are.

    What gradient checkpointing computes again is what was compiled: it stays around it.
    """
    import torch

    # A layer's gradients are exchanged when its graph is done; none is cut to do so earlier.
    torch._dynamo.config.optimize_ddp = False
    compiled = {layer_class: _compiled(layer_class) for layer_class in set(map(type, layers))}
    for layer in layers:
        layer.__class__ = compiled[type(layer)]


def _compiled(layer_class: "type[torch.nn.Module]") -> "type[torch.nn.Module]":
    """Return a class of layers whose `forward` is compiled, with every length as a variable."""
    import torch
    from torch.utils._python_dispatch import is_in_torch_dispatch_mode
    from transformers.modeling_layers import GradientCheckpointingLayer

    plain: Any = layer_class.forward
    if issubclass(layer_class, GradientCheckpointingLayer):
        plain = plain.__wrapped__  # each subclass is given what checkpoints it, so is the new one
    fast = torch.compile(plain, dynamic=True)

    def forward(self: Any, *args: Any, **options: Any) -> Any:
        # What counts operations, as those of an update are, would not see those of a graph.
        counted = is_in_torch_dispatch_mode(include_infra_modes=False)
        return (fast if self.training and not counted else plain)(self, *args, **options)

    names = {"forward": forward, "__module__": layer_class.__module__}
    made: type[Any] = type(layer_class.__name__, (layer_class,), names)
    return made
