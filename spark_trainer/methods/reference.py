"""The weights of the start, which a run that learns from rewards may be held close to."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from spark_trainer.system import log

if TYPE_CHECKING:
    import torch

GIB = 2**30
Held = Callable[[], "list[torch.Tensor]"]


class Start:
    """A copy of what a process holds of the weights that learn, as they were before any update."""

    def __init__(self, held: Held) -> None:
        """Copy what is held now.

        Args:
            held: gives what this process holds of each weight, in the same memory.
        """
        self._held, self._kept = held, [one.clone() for one in held()]
        size = sum(one.numel() * one.element_size() for one in self._kept)
        text = "train.rft.beta: the weights of the start stay beside the others, %.2f GiB more"
        log.logger.info(text, size / GIB)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Enter with the weights of the start in the place of those that learn."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        import torch

        with torch.no_grad():
            for one, kept in zip(self._held(), self._kept, strict=True):
                now = one.clone()
                one.copy_(kept)
                kept.copy_(now)
        torch.clear_autocast_cache()  # of the weights before, in 16 bits


@contextlib.contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """Enter with a network as it was before its adapters."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()
