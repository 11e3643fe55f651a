"""Nests of dicts, lists, plain values and tensors in one safetensors file: data, never code."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from spark_trainer.errors import MachineError

KEY = "nest"  # of the file's metadata: how the tensors hang together
TENSOR = "tensor"
PLAIN = (bool, int, float, str, type(None))


def save(path: Path, value: Any) -> None:
    """Write a nest.

    Raises:
        MachineError: the file can't be written.
        TypeError: something in it is neither plain nor a tensor.
    """
    tensors: dict[str, torch.Tensor] = {}
    told = json.dumps(_taken_apart(value, tensors))
    write(path, tensors, {KEY: told})


def write(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors, those that share memory each by itself.

    Raises:
        MachineError: the file can't be written.
    """
    seen: set[int] = set()
    try:
        save_file({name: _alone(one, seen) for name, one in tensors.items()}, path, metadata)
    except SafetensorError as error:  # of tensors of our own: it can only be the disk
        raise MachineError(f"{path}: {error}") from None


def load(path: Path) -> Any:
    """Read what `save` wrote, its tensors on the CPU."""
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()[KEY])
        return _put_together(told, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def _taken_apart(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return what JSON can hold of a nest; keys stay what they are, numbers for example."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach()
        return {TENSOR: name}
    if isinstance(value, dict):
        return {"dict": [[key, _taken_apart(one, tensors)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_taken_apart(one, tensors) for one in value]}
    if type(value) not in PLAIN:
        raise TypeError(f"a checkpoint can't hold {type(value).__module__}.{type(value).__name__}")
    return value


def _put_together(told: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(told, dict):
        return told
    [(kind, inside)] = told.items()
    if kind == TENSOR:
        return tensors[inside]
    if kind == "dict":
        return {key: _put_together(one, tensors) for key, one in inside}
    values = [_put_together(one, tensors) for one in inside]
    return values if kind == "list" else tuple(values)


def _alone(tensor: torch.Tensor, seen: set[int]) -> torch.Tensor:
    """Return the tensor on the CPU, copied only where it shares its memory with others."""
    own = tensor.detach().cpu().contiguous()
    memory = own.untyped_storage()
    if memory.nbytes() != own.nbytes or memory.data_ptr() in seen:
        own = own.clone()
    seen.add(own.untyped_storage().data_ptr())
    return own
