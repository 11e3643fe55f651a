"""What the GPU does in an update: how long it is busy, and with which kinds of kernels."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

NAMED = 12  # kernels that take longest are named, and waits between two
# What a kernel is, by words of its name; the first that fits counts. A compiler names its kernels
# after all that it fused.
KINDS = {
    "compiled": ("triton",),
    "attention": ("flash", "fmha", "attention", "varlen"),
    "products": ("gemm", "nvjet", "cutlass", "xmma", "cublas", "conv", "wgrad", "dgrad", "sm90_"),
    "copies": ("memcpy", "memset", "copy"),
}


class Kernel(NamedTuple):
    """A kernel that has run: when, in microseconds."""

    name: str
    start: float
    end: float


def watched(make: Callable[[], Any]) -> dict[str, Any]:
    """Make something under torch's profiler; returns what the GPU did, in seconds and by kind."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        make()
        torch.cuda.synchronize()
    return figures(
        Kernel(event.name, event.time_range.start, event.time_range.end)
        for event in profile.events() or ()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )


def figures(kernels: Iterable[Kernel]) -> dict[str, Any]:
    """Add up kernels.

    Returns:
        `kernels`: how many; `span_s`: seconds from the first to the end of the last; `busy_s`:
        seconds in which one runs at least; `<kind>_s`: of each kind, `other` too; `slowest`: names,
        how often each ran, and its seconds in all; `idle`: the longest times without any, between
        which two.
    """
    ran = sorted(kernels, key=lambda kernel: kernel.start)
    each: dict[str, list[float]] = defaultdict(list)
    kinds = dict.fromkeys([*KINDS, "other"], 0.0)
    idle: list[tuple[float, str, str]] = []
    before, until, busy = "", ran[0].start if ran else 0.0, 0.0
    for name, start, end in ran:
        each[name].append((end - start) / 1e6)
        kinds[kind(name)] += (end - start) / 1e6
        if start > until:
            idle.append(((start - until) / 1e6, before, name))
        if end > until:
            busy += (end - max(start, until)) / 1e6
            before, until = name, end
    slowest = sorted(each.items(), key=lambda one: -sum(one[1]))[:NAMED]
    return {
        "kernels": len(ran),
        "span_s": (until - ran[0].start) / 1e6 if ran else 0.0,
        "busy_s": busy,
        **{f"{name}_s": seconds for name, seconds in kinds.items()},
        "slowest": [[name[:80], len(took), sum(took)] for name, took in slowest],
        "idle": [[a[:80], b[:80], took] for took, a, b in sorted(idle, reverse=True)[:NAMED]],
    }


def kind(name: str) -> str:
    """Tell what a kernel does, by its name."""
    lower = name.lower()
    return next((one for one, words in KINDS.items() if any(w in lower for w in words)), "other")
