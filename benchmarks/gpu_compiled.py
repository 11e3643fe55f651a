"""Bytes that layers would move on a GPU if torch's compiler made their kernels; none is needed.

A layer's graphs, forward and backward, go through the compiler's own passes, which fuse kernels as
they would for a GPU, and of each kernel that is no product the compiler counts the bytes
(`torch._inductor`). They are made for the lengths of one batch; in training, for all lengths.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch._dynamo.device_interface import CudaInterface
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._functorch.aot_autograd import aot_function
from torch._inductor import compile_fx, scheduler
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten
from torch.utils.flop_counter import flop_registry

from spark_trainer.families.kinds import compiling
from spark_trainer.train.living import AsOnCuda

GPU = torch.device("cuda", 0)
# What the compiler asks an H100 for before it makes code.
PROPERTIES = SimpleNamespace(
    name="H100",
    type="cuda",
    major=9,
    minor=0,
    multi_processor_count=132,
    max_threads_per_multi_processor=2048,
    regs_per_multiprocessor=65536,
    shared_memory_per_block_optin=232448,
    warp_size=32,
    total_memory=80 << 30,
)
Plain = Callable[..., Any]


class Moved(NamedTuple):
    """Bytes of a layer's kernels that are no products, in one call."""

    forward: int
    backward: int


@dataclass(frozen=True)
class Blank:
    """A tensor's shape, to make another one by, without content."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    learns: bool

    def make(self) -> torch.Tensor:
        """Make a tensor, in the mode in which it is to be without content."""
        return torch.empty(self.shape, dtype=self.dtype, requires_grad=self.learns)


class Module(torch.nn.Module):
    """A layer, without what checkpoints it."""

    def __init__(self, layer: torch.nn.Module, plain: Plain) -> None:
        super().__init__()
        self.layer, self._plain = layer, plain

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the layer's class does."""
        return self._plain(self.layer, *args, **kwargs)


class Call:
    """A layer, and how it was called: with tensors of which only the shapes are kept."""

    def __init__(self, layer: torch.nn.Module, plain: Plain, args: Any, kwargs: Any) -> None:
        self._module = Module(layer, plain)
        self._weights = dict(self._module.named_parameters()) | dict(self._module.named_buffers())
        self._given, self._tree = tree_flatten(tree_map(_blank, (args, kwargs)))

    @property
    def kind(self) -> str:
        """Name what decides the graphs of the call."""
        return f"{type(self._module.layer).__qualname__} {self._given}"

    def compiled(self) -> Moved:
        """Count what the compiler's kernels move."""
        with self._inputs() as inputs:
            graphs = _traced(self._plain, inputs)
        with _as_with_gpu():
            both = [_bytes(graph, bool(number)) for number, graph in enumerate(graphs)]
        return Moved(*[*both, 0][:2])

    def backward(self, watch: Any) -> None:
        """Go back without a compiler, watched by a mode of torch."""
        with self._inputs() as inputs:
            made = next(one for one in tree_leaves(self._plain(*inputs)) if _is_tensor(one))
            learn = [one for one in inputs if one.requires_grad]
            if made.requires_grad:
                given = torch.empty_like(made)
                with watch:
                    torch.autograd.grad(made, learn, given, allow_unused=True)

    @contextmanager
    def _inputs(self) -> Iterator[list[torch.Tensor]]:
        """Make the tensors that `_plain` takes, beside the weights."""
        modes = {one.fake_mode for one in self._weights.values() if isinstance(one, FakeTensor)}
        [mode] = modes
        with mode:
            blanks = [one.make() for one in self._given if isinstance(one, Blank)]
            yield [*self._weights.values(), *blanks]

    def _plain(self, *tensors: torch.Tensor) -> Any:
        """Compute the layer as a function of all tensors."""
        rest = iter(tensors)
        weights = {name: next(rest) for name in self._weights}
        given = [next(rest) if isinstance(one, Blank) else one for one in self._given]
        args, kwargs = tree_unflatten(given, self._tree)
        with AsOnCuda():
            return torch.func.functional_call(self._module, weights, args, kwargs)


class Calls:
    """The calls of layers in a pass, by what decides their graphs."""

    def __init__(self) -> None:
        self.inside = False  # a layer, on its way forward
        self.known = dict[str, Call]()
        self._forward, self._backward = Counter[str](), Counter[str]()

    def watch(self, layers: Iterable[torch.nn.Module]) -> None:
        """Watch these layers from now on."""
        compiling.replace([*layers], self._watched)

    def _watched(self, plain: Plain) -> Plain:
        def forward(layer: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            call = Call(layer, plain, args, kwargs)
            self.known.setdefault(call.kind, call)
            self._forward[call.kind] += 1
            if torch._C._current_graph_task_id() == -1:  # else it is computed again
                self._backward[call.kind] += 1
            self.inside = True
            try:
                return plain(layer, *args, **kwargs)
            finally:  # what is computed again ends by an error, once all is there that is wanted
                self.inside = False

        return forward

    def compiled(self) -> int:
        """Add up what compiled layers move."""
        moved = {kind: call.compiled() for kind, call in self.known.items()}
        return sum(
            self._forward[kind] * one.forward + self._backward[kind] * one.backward
            for kind, one in moved.items()
        )

    def backward(self, watch: Callable[[], Any]) -> int:
        """Add up what the layers move on their way back without a compiler."""
        total = 0
        for kind, call in self.known.items():
            mode = watch()
            call.backward(mode)
            total += self._backward[kind] * mode.eager_bytes
        return total


def _traced(plain: Plain, inputs: list[torch.Tensor]) -> list[torch.fx.GraphModule]:
    """Return a function's forward graph and, where something learns, its backward one."""
    found: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: Any) -> Any:
        found.append(copy.deepcopy(graph))
        return make_boxed_func(graph.forward)

    def split(graph: torch.fx.GraphModule, given: Any, **options: Any) -> Any:
        parts = compile_fx.partition_fn(graph, given, **options)
        found.extend(map(copy.deepcopy, parts))
        return parts

    trace: Any = aot_function
    trace(
        plain,
        fw_compiler=lambda graph, _: make_boxed_func(graph.forward),
        inference_compiler=keep,
        partition_fn=split,
        decompositions=select_decomp_table(),
    )(*inputs)
    return found


@contextmanager
def _as_with_gpu() -> Iterator[None]:
    """Let the compiler plan for a GPU that is not there."""
    said: list[tuple[Any, str, Any]] = [
        (scheduler, "has_triton", lambda *_: True),
        (CudaInterface, "get_device_properties", staticmethod(lambda *_: PROPERTIES)),
        (CudaInterface, "get_compute_capability", staticmethod(lambda *_: 90)),
        (torch.cuda, "get_device_properties", lambda *_: PROPERTIES),
        (torch.cuda, "get_device_capability", lambda *_: (9, 0)),
        (torch.cuda, "current_device", lambda: 0),
    ]
    with ExitStack() as stack:
        for place, name, answer in said:
            stack.enter_context(mock.patch.object(place, name, answer))
        yield


def _bytes(graph: torch.fx.GraphModule, backward: bool) -> int:
    """Fuse a graph's kernels for a GPU; returns the bytes of those that are no products."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    inputs = [_on_gpu(node.meta["val"], mode) for node in graph.graph.find_nodes(op="placeholder")]
    for node in graph.graph.nodes:
        node.args, node.kwargs = tree_map(_moved, (node.args, node.kwargs))
        node.meta.pop("val", None)
    with V.set_fake_mode(mode):
        compile_fx.fake_tensor_prop(graph, inputs)
        compile_fx._recursive_post_grad_passes(graph, is_inference=False)
        lowering = GraphLowering(graph, example_inputs=inputs, is_backward=backward)
        with V.set_graph_handler(lowering), V.set_debug_handler(DebugContext()):
            lowering.run(*inputs)
            lowering._update_scheduler()
            nodes = lowering.scheduler.nodes
            return sum(node.get_read_write_buffers_sizes() for node in nodes if not _product(node))


def _product(node: Any) -> bool:
    """Tell whether a kernel's time is that of its FLOPs."""
    if not isinstance(node, scheduler.ExternKernelSchedulerNode):
        return False
    called = getattr(node.node, "op_overload", None)
    return called is None or called.overloadpacket in flop_registry


def _on_gpu(value: Any, mode: FakeTensorMode) -> Any:
    if not _is_tensor(value):
        return value
    with mode:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=GPU)


def _moved(value: Any) -> Any:
    return GPU if isinstance(value, torch.device) else value


def _blank(value: Any) -> Any:
    if not _is_tensor(value):
        return value
    return Blank(tuple(value.shape), value.dtype, value.requires_grad)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
