"""Safetensors files of our own: written with errors that say whose trouble they are, and checked.

A sealed file keeps a digest of its tensors: their names, shapes and bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from spark_trainer.data.files import CHUNK_BYTES, canonical_json
from spark_trainer.errors import MachineError

if TYPE_CHECKING:
    import torch

SEAL = "sha256"  # the key of the digest, in what a file says beside its tensors
HEAD_BYTES = 8  # before a file's header: its length

# A tensor's name and shape, and its bytes piece by piece.
Held = tuple[str, Sequence[int], Iterable[bytes | memoryview]]


def write(
    path: Path, tensors: "Mapping[str, torch.Tensor]", metadata: dict[str, str] | None = None
) -> None:
    """Write contiguous tensors of our own; other threads go on meanwhile.

    Args:
        path: the file.
        tensors: what it will hold, by name.
        metadata: what else it says.

    Raises:
        MachineError: it can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata)
    except SafetensorError as error:  # it tells no number, but of our tensors it is the disk
        raise MachineError(f"{path}: {error}") from None


def seal(tensors: "Mapping[str, torch.Tensor]") -> dict[str, str]:
    """Return what a file says beside these contiguous tensors, so that `check` can compare them."""
    import torch

    held = (
        (name, tensor.shape, [tensor.cpu().reshape(-1).view(torch.uint8).numpy().data])
        for name, tensor in tensors.items()
    )
    return {SEAL: _digest(held)}


def check(path: Path) -> None:
    """Read a file whole, and compare what it holds with its digest if it is sealed.

    Raises:
        SafetensorError, ValueError: it is cut, or not as it was written.
        OSError: the machine can't read it.
    """
    from safetensors import safe_open

    with open(path, "rb") as file:
        with safe_open(path, "pt") as whole:  # which compares the header with the file's length
            said = whole.metadata() or {}
        length = int.from_bytes(file.read(HEAD_BYTES), "little")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        start = HEAD_BYTES + length
        held = (
            (name, one["shape"], _read(file, *(start + offset for offset in one["data_offsets"])))
            for name, one in header.items()
        )
        found = _digest(held)
    if said.get(SEAL, found) != found:
        raise ValueError("not the tensors that were written")


def _digest(held: Iterable[Held]) -> str:
    total = hashlib.sha256()
    for name, shape, pieces in sorted(held, key=lambda one: one[0]):
        total.update(canonical_json([name, list(shape)]).encode())
        for piece in pieces:
            total.update(piece)
    return total.hexdigest()


def _read(file: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    file.seek(begin)
    while begin < end and (piece := file.read(min(CHUNK_BYTES, end - begin))):
        begin += len(piece)
        yield piece
