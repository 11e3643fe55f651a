"""Model FLOPs utilisation (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).

    MFU = FLOPs an update needs / (time × processes × peak of one device)

FLOPs are counted, not estimated: every matrix product, convolution and attention of a real forward
and backward pass, by torch's own formulas, vision included, with only those backward products that
frozen weights leave due. What gradient checkpointing computes a second time is left out. Attention
counts in full, also where it is causal and half of it is not needed, as in that appendix.

They are counted once for each shape of clip. Where there are tokens, they are counted once for
batches that have about as many of them, of those that are learnt, of pixels and of padding, until
that are many; then a token of the batch that is most like them counts.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.attention.varlen  # registers its kernels
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from spark_trainer.families.kinds.batch import Batch

# Dense bf16 peak in TFLOP/s by words of the device's name, from the makers' data sheets; the first
# that fits counts.
PEAK_TFLOPS = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "GH200": 989.0,
    "H200 NVL": 835.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "A800": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A10": 125.0,
    "A10G": 70.0,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}
PARTS = r"\b(MIG|Laptop)\b"  # of a card, or slower ones of its name
ALIKE = 1.1  # times as many tokens or pixels: what a token needs is counted anew beyond that
# Shapes of batches of tokens that are counted, for which nothing is compiled; 3,000 batches of one
# clip of 1 to 16 frames have 386, and nearest ones are at most 5 % off, and 0.1 % in all.
MOST_SHAPES = 32


def _varlen_forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    *others: Any,
    **out: Any,
) -> int:
    """Return the FLOPs of torch's attention inside segments: two products of each pair."""
    pairs = int((cu_seq_q.diff().long() * cu_seq_k.diff().long()).sum())
    return 2 * pairs * query.shape[1] * (query.shape[2] + value.shape[2])


def _varlen_backward(
    grad_out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    *others: Any,
    **result: Any,
) -> int:
    """Return the FLOPs of its backward pass: five products, as the sums are computed again."""
    return _varlen_forward(query, key, value, cu_seq_q, cu_seq_k) * 5 // 2


# torch counts these itself, but 2.11 doesn't.
flop_registry.setdefault(torch.ops.torch_attn._varlen_attn, _varlen_forward)
flop_registry.setdefault(torch.ops.torch_attn._varlen_attn_backward, _varlen_backward)


def peak_tflops(device: torch.device, given: float | None) -> float | None:
    """Return the peak of a device, configured or of the table; None where neither knows."""
    if given is not None or device.type != "cuda":
        return given
    return known_peak(torch.cuda.get_device_name(device))


def known_peak(name: str) -> float | None:
    """Return the peak of a device of this name; None of one that the table doesn't have."""
    if re.search(PARTS, name):
        return None
    fits = (peak for words, peak in PEAK_TFLOPS.items() if re.search(rf"\b{words}\b", name))
    return next(fits, None)


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the FLOPs of what runs inside it, and keeps none of its tensors.

    `total` is without what checkpointing computes again, which is `recomputed`.

    FlopCounterMode would: it also follows modules by hooks that hold on to what checkpointing
    drops, and a network of 14 billion weights took 408 GiB instead of 30.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = self.recomputed = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(getattr(func, "_overloadpacket", func))
        if formula:
            number = formula(*args, **kwargs, out_val=out)
            if computed_again():
                self.recomputed += number
            else:
                self.total += number
        return out


def computed_again() -> bool:
    """Tell whether checkpointing computes something a second time.

    Only then does a backward pass catch what another one could go through. Whether gradients are
    on tells nothing: attention of any lengths is computed with none.
    """
    if torch._C._current_graph_task_id() == -1:
        return False
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


class Meter:
    """FLOPs that the passes of an update needed in this process."""

    def __init__(self) -> None:
        self._each: dict[Any, float] = {}  # of a token or a clip, by shape
        self._needed = 0.0

    @property
    def shapes(self) -> int:
        """Return how many shapes FLOPs were counted of."""
        return len(self._each)

    @contextlib.contextmanager
    def over(self, ready: Batch) -> Iterator[None]:
        """Count the forward and the backward pass over a batch."""
        key, number = _shape(ready), ready.num_tokens or ready.num_targets
        if key not in self._each and ready.num_tokens and self.shapes >= MOST_SHAPES:
            key = min(self._each, key=partial(math.dist, key))
        if key in self._each:
            yield
        else:
            with Counter() as counter:
                yield
            self._each[key] = counter.total / number
        self._needed += self._each[key] * number

    def take(self) -> float:
        """Return what was needed since the last call."""
        needed, self._needed = self._needed, 0.0
        return needed


def _shape(ready: Batch) -> Any:
    """Return what batches share whose FLOPs grow with the number of clips, or of tokens."""
    tensors = {n: v for n, v in ready.tensors.items() if isinstance(v, torch.Tensor)}
    if not ready.num_tokens:
        return tuple((name, *tensors[name].shape[1:]) for name in sorted(tensors))
    sizes = [0, 0]  # of ids and places, padding included; and of pixels, sound or states
    for value in tensors.values():
        sizes[value.is_floating_point()] += value.numel()
    return tuple(
        round(math.log(max(1, number), ALIKE))
        for number in (ready.num_tokens, ready.num_targets, *sizes)
    )
