"""Model FLOPs utilisation (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).

    MFU = FLOPs a token × tokens/s / (processes × peak of one device)

FLOPs a token are counted, not estimated: torch's FlopCounterMode sees every matrix product,
convolution and attention of one forward and backward pass over a real batch, vision included, with
only those backward products that frozen weights leave due. What gradient checkpointing computes a
second time is left out. Longer samples than those of that batch count a little too low, because
attention grows with the square of the length.
"""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

# Dense bf16 peak in TFLOP/s by a word of the device's name, from the makers' data sheets.
PEAK_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "A800": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}


def peak_tflops(device: torch.device, given: float | None) -> float | None:
    """Peak of a device, from the configuration or the table; None where neither knows."""
    if given is not None or device.type != "cuda":
        return given
    name = torch.cuda.get_device_name(device)
    return next((peak for word, peak in PEAK_TFLOPS.items() if word in name), None)


def count(loss: Callable[[], torch.Tensor], model: torch.nn.Module, recomputed: bool) -> int:
    """FLOPs of one forward and backward pass, leaving gradients and random numbers as they were.

    Args:
        loss: makes the loss of a batch.
        model: whose gradients are dropped; none may be held yet.
        recomputed: the forward pass runs twice, by gradient checkpointing.
    """
    devices = [p.device for p in model.parameters() if p.device.type == "cuda"][:1]
    with torch.random.fork_rng(devices), FlopCounterMode(display=False) as counter:
        value = loss()
        forward = counter.get_total_flops()
        value.backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops()) - (forward if recomputed else 0)
