"""The bytes of tensors that are alive, and passes over tensors without content.

What is added up is what torch hands out for tensors. What a kernel borrows for itself, such as a
convolution's workspace, and what an allocator loses by rounding is not in it.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from spark_trainer.families.kinds.loading import Loaded

aten = torch.ops.aten

# What CUDA's autocast computes in float32 and a CPU's as it comes
# (docs.pytorch.org/docs/stable/amp.html); names in torch, in torch.nn.functional and of tensors.
WIDE = (
    *("layer_norm", "group_norm", "softmax", "log_softmax", "cross_entropy", "nll_loss"),
    *("mse_loss", "pow", "__pow__", "rsqrt", "reciprocal", "exp", "log", "norm", "sum", "prod"),
    *("cumsum", "softplus", "normalize", "cosine_similarity"),
)
PLACES = (torch, torch.nn.functional, torch.Tensor)
WIDE_FUNCTIONS = {getattr(place, name, None) for place in PLACES for name in WIDE} - {None}


class Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of all storages that are alive, and remembers the most."""

    def __init__(self, held: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sizes: dict[int, int] = {}
        self.now = self.most = 0
        for tensor in held:
            self.meet(tensor)

    def meet(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage from now on, if it isn't already."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._leave, storage._cdata)

    def _leave(self, storage: int) -> None:
        self.now -= self._sizes.pop(storage)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.meet(tensor)
        return made


class WithoutContent(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers what depends on the content of tensors that have none.

    Integers and masks are real: only weights, and what is computed with them, are without content.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if args and isinstance(args[0], FakeTensor):
            if func is aten.index.Tensor:
                return _chosen(*args)
            if func is aten.any.dim:  # no number is taken for 0
                return torch.ones(args[0].any(*args[1:]).shape, dtype=torch.bool)
        return func(*args, **(kwargs or {}))


def _chosen(tensor: torch.Tensor, indices: Any) -> torch.Tensor:
    """Return what indices choose of a tensor without content, where a mask is among them."""
    if not any(index is not None and index.dtype == torch.bool for index in indices):
        chosen: torch.Tensor = aten.index.Tensor(tensor, indices)
        return chosen
    [mask] = indices
    return tensor.new_empty((int(mask.sum()), *tensor.shape[mask.ndim :]))


class AsOnCuda(TorchFunctionMode):
    """Lets autocast on a CPU compute in float32 what it would on a GPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.is_autocast_enabled("cpu") and func in WIDE_FUNCTIONS:
            args = tree_map(_wide, args)
        return func(*args, **(kwargs or {}))


def _wide(value: Any) -> Any:
    narrow = isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if narrow else value


def fill(loaded: Loaded) -> set[torch.nn.Module]:
    """Take a model off the meta device: its weights get a place, still without content.

    Further calls of `to` do nothing: torch moves no such tensors.

    Returns:
        The networks that were loaded.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    components = getattr(loaded.processor, "components", {}).values()
    networks = {loaded.model, *(p for p in components if isinstance(p, torch.nn.Module))}
    if any(hasattr(parameter, "quant_type") for parameter in loaded.model.parameters()):
        from bitsandbytes import functional

        whole = functional.create_dynamic_map()  # type: ignore[no-untyped-call]
        functional.name2qmap.setdefault("dynamic", whole)  # has content
    for network in networks:
        with mode:
            _replace(network, _parameter)
            for module in network.modules():
                for key, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[key] = torch.empty(buffer.shape, dtype=buffer.dtype)
        network.to = lambda *_, network=network, **__: network  # type: ignore[method-assign]
    return networks


def narrow(network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Hold all weights of a network in another precision."""

    def narrowed(value: torch.nn.Parameter) -> torch.nn.Parameter:
        return torch.nn.Parameter(value.detach().to(dtype), value.requires_grad)

    _replace(network, narrowed)


def _replace(
    network: torch.nn.Module, make: Callable[[torch.nn.Parameter], torch.nn.Parameter]
) -> None:
    """Put other parameters into the places of a network's; tied ones stay one."""
    made: dict[torch.Tensor, torch.nn.Parameter] = {}
    for module in network.modules():
        for key, value in module._parameters.items():
            if value is not None:
                if value not in made:
                    made[value] = make(value)
                module._parameters[key] = made[value]


def _parameter(value: torch.nn.Parameter) -> torch.nn.Parameter:
    if not hasattr(value, "quant_type"):
        content = torch.empty(value.shape, dtype=value.dtype)
        return torch.nn.Parameter(content, value.requires_grad)
    from bitsandbytes import functional

    nested = {"compress_statistics": True, "quant_type": value.quant_type}
    packed, state = functional.quantize_4bit(
        torch.empty(value.shape, dtype=torch.float32), **nested
    )
    made: Any = torch.nn.Parameter(packed, requires_grad=False)
    made.quant_state, made.bnb_quantized = state, True
    return made  # type: ignore[no-any-return]


def weights(network: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Yield parameters and buffers, and what goes with those of 4 bits."""
    yield from network.buffers()
    for parameter in network.parameters():
        yield parameter
        if state := getattr(parameter, "quant_state", None):
            yield state.absmax
            if state.nested:
                yield from (state.state2.absmax, state.offset)


@contextlib.contextmanager
def without_content(device: str) -> Iterator[None]:
    """Compute with tensors without content, as autocast does on `cuda` or on `cpu`."""
    on_cuda = AsOnCuda() if device == "cuda" else contextlib.nullcontext()
    with on_cuda, WithoutContent():  # type: ignore[no-untyped-call]
        yield
