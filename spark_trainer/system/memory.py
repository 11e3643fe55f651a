"""Recognising that memory ran out, in the errors of all libraries."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from spark_trainer.errors import MachineError, SparkTrainerError

# Messages of CTranslate2 and of PyTorch's allocator for the CPU, which has no class for it, and of
# cuDNN when it gets no workspace.
WORDS = (
    "out of memory",
    "can't allocate memory",
    "bad alloc",
    "bad_alloc",
    "cudnn_status_not_supported",
)


class OutOfMemory(MachineError):
    """The smallest batch does not fit into memory; the message says which settings to lower."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of NumPy, PyTorch or CTranslate2 says that no memory is left."""
    if isinstance(error, SparkTrainerError):
        return isinstance(error, OutOfMemory)
    torch: Any = sys.modules.get("torch")  # if it isn't loaded, the error isn't its own
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in WORDS)


@contextlib.contextmanager
def fitting(advice: str) -> Iterator[None]:
    """Turn running out of memory into an error that says what to change: no video is the cause.

    Args:
        advice: a message that says what does not fit, and which settings to lower.

    Raises:
        OutOfMemory: the memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{advice} ({str(error) or type(error).__name__})") from error
