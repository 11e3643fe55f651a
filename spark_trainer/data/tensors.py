"""Writing safetensors files, with errors that say whose trouble they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from spark_trainer.errors import MachineError

if TYPE_CHECKING:
    import torch


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
