"""What an update would take, by arithmetic: from passes of tensors without content, on a CPU.

    s = computed FLOPs / rate of matrix products + bytes of all other kernels / rate of memory

Bytes are counted in three ways:

    eager     each kernel reads its inputs and writes its outputs, as without a compiler
    compiled  the repeated layers' kernels are those that torch's compiler fuses for a GPU, forward
              and backward (`gpu_compiled.py`), all others as before
    fused     what comes from one such kernel and goes into others is never written, unless a
              product or the backward pass wants it: no compiler does better, and none across layers

Not in it: the optimizer, the time of launches, which a GPU hides behind kernels that take longer,
and waiting for data.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import gpu_compiled
import gpu_training
import torch
from pydantic import ValidationError
from torch._subclasses import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from spark_trainer.config import Run
from spark_trainer.families.kinds import loading
from spark_trainer.families.kinds.attention import use_varlen
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.train import flops
from spark_trainer.train.topology import Topology

PRODUCTS_PER_S = 595e12  # of an H100, 580 to 610 at these sizes
BYTES_PER_S = 3e12
PEAK_PER_S = 989e12  # of the data sheet, for MFU
RECOMPUTED: tuple[Any, ...] = (True, "attention", "selective", 2, 4, False)
ESTIMATED = (
    "qwen2-vl-7b, LoRA, video",
    "qwen2-vl-7b, LoRA, image",
    "svd, temporal layers",
    "wan-animate-14b, LoRA",
)
WAYS = ("eager", "compiled", "fused")  # in which bytes are counted
NOTHING_DONE = {"detach", "alias", "lift_fresh", "_unsafe_view", "_reshape_alias"}
EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
CHOOSING = {"embedding", "index", "index_select", "gather"}  # read no more than they give
# Beside what torch calls pointwise.
FUSED = {
    *("_to_copy", "cat", "clone", "copy_", "mean", "slice_backward", "sum", "where"),
    *("_log_softmax", "_log_softmax_backward_data", "_softmax", "_softmax_backward_data"),
    *("native_layer_norm", "native_layer_norm_backward"),
    *("native_group_norm", "native_group_norm_backward"),
}


@dataclass
class Stored:
    """A tensor's memory: whether a kernel that can be fused made it, and who reads it.

    A phase is a pass forward or backward, or what is recomputed.
    """

    num_bytes: int
    fused: bool
    phase: int
    reads: set[tuple[bool, int]] = field(default_factory=set)

    @property
    def moved(self) -> int:
        """Return the bytes that kernels which can be fused have to read and to write."""
        read = {phase for fused, phase in self.reads if fused}
        if not self.fused:
            return len(read) * self.num_bytes
        inside = self.reads == {(True, self.phase)}
        return 0 if inside else (1 + len(read - {self.phase})) * self.num_bytes


class Traffic(TorchDispatchMode):
    """Counts kernels, the FLOPs of matrix products, and the bytes of all other kernels."""

    def __init__(self, calls: gpu_compiled.Calls | None = None) -> None:
        super().__init__()
        self.kernels = self.eager_bytes = self.computed = 0
        self.layer_bytes = 0  # of layers on their way forward, without a compiler
        self._calls = calls
        self._unfused_bytes = 0  # of kernels that stay alone
        self._stored: list[Stored] = []
        self._of: WeakKeyDictionary[Any, Stored] = WeakKeyDictionary()

    @property
    def fused_bytes(self) -> int:
        """Return the bytes where all is fused that can be."""
        return self._unfused_bytes + sum(one.moved for one in self._stored)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made, name = func(*args, **kwargs), func.overloadpacket.__name__
        given, given_back = _fake((args, kwargs)), _fake(made)
        if func.is_view or name in NOTHING_DONE | EMPTY or not given_back:
            return made
        self.kernels += 1
        formula = flop_registry.get(func.overloadpacket)
        fused = torch.Tag.pointwise in func.tags or name in FUSED
        if formula:
            self.computed += formula(*args, **kwargs, out_val=made)
        else:
            read = given_back if name in CHOOSING else given
            moved = _size(read) + _size(given_back)
            self.eager_bytes += moved
            self._unfused_bytes += 0 if fused else moved
            self.layer_bytes += moved if self._calls and self._calls.inside else 0
        self._follow(given, given_back, fused)
        return made

    def _follow(self, given: list[FakeTensor], given_back: list[FakeTensor], fused: bool) -> None:
        phase = _phase()
        for tensor in given:
            self._known(tensor, False, -1).reads.add((fused, phase))
        for tensor in given_back:
            self._known(tensor, fused, phase)

    def _known(self, tensor: FakeTensor, fused: bool, phase: int) -> Stored:
        storage = tensor.untyped_storage()
        if storage not in self._of:
            self._of[storage] = Stored(storage.nbytes(), fused, phase)
            self._stored.append(self._of[storage])
        return self._of[storage]


def _phase() -> int:
    """Tell a pass forward (0) from a backward one (1) and what that recomputes (2)."""
    if torch._C._current_graph_task_id() == -1:
        return 0
    return 1 + flops.computed_again()


def _fake(values: Any) -> list[FakeTensor]:
    return [one for one in tree_leaves(values) if isinstance(one, FakeTensor)]


def _size(tensors: Iterable[FakeTensor]) -> int:
    """Return the bytes of tensors, each once; what is repeated by a stride of 0 lies there once."""
    each = {id(one): one for one in tensors}
    return sum(
        min(one.numel() * one.element_size(), one.untyped_storage().nbytes())
        for one in each.values()
    )


def rows(names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield what an update of each training takes, for each choice of what is recomputed.

    Of those that are not ESTIMATED only the memory is computed, with the part's own choice.
    """
    for name in names:
        with tempfile.TemporaryDirectory(prefix="spark-estimate-") as folder:
            settings = gpu_training.settings(name, Path(folder), False)
            if name not in ESTIMATED:
                own, plan = settings["gradient_checkpointing"], planned(Run(**settings))
                yield {"part": name, "recomputed": own, "planned_gib": plan}
                continue
            for recomputed in RECOMPUTED:
                run = _run(settings | {"gradient_checkpointing": recomputed})
                if run:
                    yield {"part": name, "recomputed": recomputed} | row(run)


def _run(settings: dict[str, Any]) -> Run | None:
    """Return a run that compiles layers if it may; None where its settings are refused."""
    for compiled in ("layers", False):
        try:
            return Run(**settings | {"compile": compiled})
        except ValidationError:
            continue
    return None


def row(run: Run) -> dict[str, float | None]:
    """Return what an update of a run takes; the plan of its memory is the trainer's own."""
    from spark_trainer.train import memory_pass

    plain, calls, needed = memory_pass.there_and_back, gpu_compiled.Calls(), flops.Counter()
    traffic = Traffic(calls)

    def counted(method: Any, *given: Any) -> None:
        if isinstance(method.family, ChatModel):  # the plan knows no GPU
            use_varlen(method.loaded.model, method.family.tells_lengths, loading.dtype(run))
        if run.compile:
            calls.watch(method.family.layers_to_compile(method.loaded))
        with traffic, needed:
            plain(method, *given)

    with mock.patch.object(memory_pass, "there_and_back", counted):
        peak = planned(run)
    ways = {
        "eager": traffic.eager_bytes,
        "compiled": _compiled_bytes(traffic, calls, run),
        "fused": traffic.fused_bytes,
    }
    products_s = traffic.computed / PRODUCTS_PER_S
    seconds = {
        way: None if moved is None else products_s + moved / BYTES_PER_S
        for way, moved in ways.items()
    }
    return {
        "needed_tflop": needed.total / 1e12,
        "computed_tflop": traffic.computed / 1e12,
        "kernels": traffic.kernels,
        **{f"{way}_gb": None if moved is None else moved / 1e9 for way, moved in ways.items()},
        **{f"{way}_s": took for way, took in seconds.items()},
        **{
            f"{way}_mfu": None if took is None else needed.total / took / PEAK_PER_S
            for way, took in seconds.items()
        },
        "planned_gib": peak,
    }


def planned(run: Run) -> float:
    """Return the GiB that the trainer's own plan says of a run on one GPU."""
    from spark_trainer.train.memory_pass import Data
    from spark_trainer.train.memory_plan import Planner

    manifest = Path(run.manifest_path or "")
    planner = Planner(Topology(1, 1, "cuda"), Data(manifest, manifest.parent))
    return planner.plan(run).peak / 2**30


def _compiled_bytes(traffic: Traffic, calls: gpu_compiled.Calls, run: Run) -> int | None:
    """Put what compiled layers move in the place of what they moved; None where there are none."""
    if not calls.known:
        return None
    with torch.autocast("cpu", loading.dtype(run)):
        layers = traffic.layer_bytes + calls.backward(Traffic)
        return traffic.eager_bytes - layers + calls.compiled()


def table(found: Iterable[dict[str, Any]]) -> str:
    """Return a line for each row that is estimated, and what the figures rest on."""
    title = f"{'estimated, not measured; recomputed':<38}"
    heads = ("TFLOP needed", "computed", "kernels", "GiB")
    ways = ("GB", "s", "MFU")
    lines = [f"{title}" + "".join(f"{head:>14}" for head in heads)]
    lines[0] += "".join(f"{head + ' ' + '/'.join(WAYS):>28}" for head in ways)
    for one in found:
        if "kernels" not in one:
            lines.append(f"{one['part']}; {one['recomputed']}: {one['planned_gib']:.1f} GiB")
            continue
        cells = [f"{one[key]:.0f}" for key in ("needed_tflop", "computed_tflop", "kernels")]
        cells.append(f"{one['planned_gib']:.1f}")
        wide = [
            " / ".join(_cell(one[f"{way}_{unit}"], form) for way in WAYS)
            for unit, form in (("gb", "{:.0f}"), ("s", "{:.2f}"), ("mfu", "{:.0%}"))
        ]
        label = f"{one['part']}; {one['recomputed']}"
        line = f"{label:<38}" + "".join(f"{cell:>14}" for cell in cells)
        lines.append(line + "".join(f"{cell:>28}" for cell in wide))
    rates = f"{PRODUCTS_PER_S / 1e12:g} TFLOP/s of matrix products, {BYTES_PER_S / 1e12:g} TB/s"
    return "\n".join([*lines, f"at {rates}; MFU of {PEAK_PER_S / 1e12:g} TFLOP/s"])


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
