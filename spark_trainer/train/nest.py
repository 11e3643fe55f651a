"""Nests of dicts, lists, plain values and tensors in one safetensors file: data, never code."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open

from spark_trainer.data import tensors
from spark_trainer.data.files import share

KEY = "nest"  # of the file's metadata: how the tensors hang together
TENSOR = "tensor"
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Snapshot:
    """A file as it will be written: what was copied into it changes no more.

    Attributes:
        tensors: on the CPU, each with memory of its own.
        metadata: how the tensors of a nest hang together; None where they have names of their own.
    """

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str] | None = None

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return a nest as it is now.

        Raises:
            TypeError: something in it is neither plain nor a tensor.
        """
        found: dict[str, torch.Tensor] = {}
        told = json.dumps(_taken_apart(value, found))
        return cls({name: host_copy(one) for name, one in found.items()}, {KEY: told})

    def write(self, path: Path) -> None:
        """Write the file; other threads go on meanwhile.

        Raises:
            MachineError: it can't be written.
        """
        tensors.write(path, self.tensors, self.metadata)
        share([path])


def host_copy(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy on the CPU, contiguous, that shares its memory with no other tensor."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())


def load(path: Path) -> Any:
    """Read the nest that a snapshot wrote, its tensors on the CPU."""
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()[KEY])
        return _put_together(told, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def _taken_apart(value: Any, found: dict[str, torch.Tensor]) -> Any:
    """Return what JSON can hold of a nest; keys stay what they are, numbers for example."""
    if isinstance(value, torch.Tensor):
        name = str(len(found))
        found[name] = value
        return {TENSOR: name}
    if isinstance(value, dict):
        return {"dict": [[key, _taken_apart(one, found)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_taken_apart(one, found) for one in value]}
    if type(value) not in PLAIN:
        raise TypeError(f"a checkpoint can't hold {type(value).__module__}.{type(value).__name__}")
    return value


def _put_together(told: Any, found: dict[str, torch.Tensor]) -> Any:
    if not isinstance(told, dict):
        return told
    [(kind, inside)] = told.items()
    if kind == TENSOR:
        return found[inside]
    if kind == "dict":
        return {key: _put_together(one, found) for key, one in inside}
    values = [_put_together(one, found) for one in inside]
    return values if kind == "list" else tuple(values)
