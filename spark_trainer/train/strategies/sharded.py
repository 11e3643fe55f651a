"""What the strategies have in common that shard something."""

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from spark_trainer.families.kinds import loading
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.train.nest import host_copy
from spark_trainer.train.strategies.base import Context, Strategy


class Sharded(Strategy):
    """No process holds everything; all make the same number of passes."""

    lockstep = True
    whole = False  # in `gathered`

    @property
    def optimizer_layout(self) -> str:
        return f"{self.NAME} on {self.accelerator.num_processes} processes"

    def autocast(self) -> Context:
        return contextlib.nullcontext()

    def autocast_forward(self, model: Any) -> None:
        """Let every forward pass of a network run in the run's precision, whoever calls it.

        Inside of what DeepSpeed does around one: on a GPU that ends the precision of its callers,
        and norms would be computed in 16 bits. What shows texts and videos calls the network alone.
        """
        if dtype := loading.dtype(self.run):
            context = torch.autocast(self.accelerator.device.type, dtype)
            model.forward = context(model.forward)

    def accumulate(self, last: bool) -> Context:
        return contextlib.nullcontext()

    def num_passes(self, num_batches: int) -> int:
        """Return the most that any process has to make."""
        number = torch.tensor([num_batches], device=self.accelerator.device)
        return int(self.accelerator.gather(number).max())

    def padded_batches(
        self, batches: Iterator[Batch], make_spare: Callable[[], Batch]
    ) -> Iterator[tuple[Batch, bool]]:
        if not self.shards_weights:
            yield from super().padded_batches(batches, make_spare)
            return
        spare: Batch | None = None
        while True:
            batch = next(batches, None)
            left = torch.tensor([batch is not None], device=self.accelerator.device)
            if not self.accelerator.gather(left.int()).any():
                return
            if batch is None:
                spare = spare or make_spare()
                yield spare, False
            else:
                yield batch, True

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """See `Strategy`: without the hooks that gather weights around a pass and free them."""
        if not self.shards_weights:
            yield
            return
        with self.gather_all(), _without(self.hooks()):
            self.whole = True
            try:
                yield
            finally:
                self.whole = False

    def trainable_state_dict(self) -> dict[str, torch.Tensor]:
        model, main = self.accelerator.unwrap_model(self.model), self.accelerator.is_main_process
        kept: dict[str, torch.Tensor] = {}
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                value = self.gather_parameter(parameter)
                if main:
                    kept[name] = host_copy(value)
        buffers = {n: t for n, t in model.state_dict().items() if n not in parameters}
        return kept | {name: host_copy(tensor) for name, tensor in buffers.items()}

    @abstractmethod
    def gather_all(self) -> Context:
        """Enter with every parameter whole; all processes must enter it."""

    @abstractmethod
    def hooks(self) -> Iterable[RemovableHandle]:
        """List the hooks of modules that gather weights, and those that free them."""

    @abstractmethod
    def gather_parameter(self, parameter: Any) -> torch.Tensor:
        """Return a parameter, whole and in float32; all processes must call it."""


@contextlib.contextmanager
def _without(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Have modules without some of their hooks, which come back in the order that they had."""
    before: dict[int, tuple[dict[int, Any], dict[int, Any]]] = {}
    for handle in handles:
        hooks = handle.hooks_dict_ref()
        assert hooks is not None
        before.setdefault(id(hooks), (hooks, dict(hooks)))
        del hooks[handle.id]
    try:
        yield
    finally:
        for hooks, known in before.values():
            added = {key: hook for key, hook in hooks.items() if key not in known}
            hooks.clear()
            hooks.update(known | added)
