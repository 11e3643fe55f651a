"""Running out of memory: told from other errors, whichever library says it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from spark_trainer.errors import MachineError, SparkTrainerError

# Of CTranslate2, and of PyTorch beside the class that it has for a GPU: its allocator for the CPU,
# and cuDNN of a workspace that it can't get.
WORDS = (
    "out of memory",
    "can't allocate memory",
    "bad alloc",
    "bad_alloc",
    "cudnn_status_not_supported",
)


class OutOfMemory(MachineError):
    """What can't be cut up further does not fit; the message says which settings to lower."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of NumPy, PyTorch or CTranslate2 says that no memory is left."""
    if isinstance(error, SparkTrainerError):
        return isinstance(error, OutOfMemory)
    torch: Any = sys.modules.get("torch")  # not there: the error can't be its own
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in WORDS)


@contextlib.contextmanager
def fitting(advice: str) -> Iterator[None]:
    """Let running out of memory end with what to change: no video is to blame for it.

    Args:
        advice: what does not fit, and which settings to lower.

    Raises:
        OutOfMemory: the memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{advice} ({str(error) or type(error).__name__})") from error
