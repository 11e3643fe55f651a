"""Samples as tensors: one by one, and together in a batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

# Upstream reads these sizes of images as it computes: from a device, the host would wait for them.
ON_HOST = ("image_sizes", "image_grid_thw", "video_grid_thw")
IGNORED = -100  # torch's `cross_entropy` leaves such labels out


@dataclass(frozen=True)
class Encoded:
    """One sample as tensors: those of a token each (L), and those of its images.

    `labels` (L) is IGNORED where there is nothing to learn; `cut` says that the text was too long.
    """

    tokens: "dict[str, torch.Tensor]"
    labels: "torch.Tensor"
    vision: "dict[str, torch.Tensor]"
    cut: bool


class Batch(NamedTuple):
    """Samples that go through the network together, and what is counted of them.

    A named tuple, because torch's loader pins the memory of what is in one.

    Attributes:
        tensors: what the forward pass and the loss take, by name; plain values are among them.
        num_targets: what the loss is a sum over: tokens that are learnt, or clips.
        num_tokens: tokens that are read, images included and padding not; 0 where there are none.
    """

    tensors: dict[str, Any]
    num_targets: int
    num_tokens: int = 0

    @property
    def inputs(self) -> dict[str, Any]:
        """Return what a forward pass takes: all but the labels."""
        return {name: value for name, value in self.tensors.items() if name != "labels"}

    def to(self, device: "torch.device") -> "Batch":
        """Return the batch on a device, but for what is read on the host."""
        import torch

        moved = {
            name: value.to(device, non_blocking=True)
            for name, value in self.tensors.items()
            if isinstance(value, torch.Tensor) and name not in ON_HOST
        }
        return self._replace(tensors=self.tensors | moved)
