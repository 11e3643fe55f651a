"""How many bytes of pixels an update that learns from rewards holds, and sends through the tower.

Of a Qwen2-VL, whose processor makes a row of floats of each patch.
"""

import gc
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Pixels:
    """Counts pixels as they come to a vision tower.

    Attributes:
        sent: bytes that went through it.
        held: bytes in the process when it was first called to answer, and to learn.
    """

    sent: int = 0
    held: dict[str, int] = field(default_factory=dict)

    def watch(self, model: Any) -> None:
        """Count what comes to a model's tower from now on."""
        model.model.visual.register_forward_pre_hook(self._count)

    def _count(self, _: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        pixels = inputs[0]
        self.sent += pixels.nbytes
        what = "learning" if torch.is_grad_enabled() else "answering"
        if what not in self.held:
            self.held[what] = _held(pixels.shape[-1])


def _held(width: int) -> int:
    """Return the bytes of all matrices of this width, each memory counted once."""
    alike = [
        one.untyped_storage()
        for one in gc.get_objects()
        if type(one) is torch.Tensor and one.ndim == 2 and one.shape[1] == width
    ]
    return sum({one.data_ptr(): one.nbytes() for one in alike if one.device.type == "cpu"}.values())
