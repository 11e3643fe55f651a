"""The part of DeepSpeed that torch compiles at a first start on a CPU: waiting for it has an end.

One process compiles and the others wait for its lock. torch lets them wait for ever: a compiler
that hangs, or a builder that was stopped, would hold up every later start without a word.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from spark_trainer.errors import MachineError

LIMIT_SECONDS = 300.0  # compiling takes one minute on a core


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Let nobody in this process wait longer for what another compiles.

    Raises:
        MachineError: it did not get done; the message names the lock.
    """
    from filelock import Timeout
    from torch.utils import cpp_extension

    module: Any = cpp_extension
    if not hasattr(module, "FileLock"):  # torch 2.11 waits by other means, which know no end
        yield
        return
    plain = module.FileLock
    module.FileLock = partial(plain, timeout=LIMIT_SECONDS)
    try:
        yield
    except Timeout as error:
        lock = Path(error.lock_file)
        raise MachineError(
            f"{lock}: another process has compiled a part of DeepSpeed for {LIMIT_SECONDS:.0f} s "
            f"and is not done; end it, remove {lock.parent}, and start again"
        ) from error
    finally:
        module.FileLock = plain
