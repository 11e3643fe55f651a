"""The device of a step's model: a leased GPU, or the CPU where the configuration says so."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Literal

from spark_trainer import gpu, log
from spark_trainer.config import ConfigError

Wanted = Literal["cuda", "auto", "cpu"]


def asked(wanted: Wanted, fraction: float, local: bool) -> int:
    """Return the number of GPUs that a job asks Snakemake for.

    A share of a GPU is beyond what Snakemake counts, so on this machine it asks for none and the
    lease alone decides; a cluster gives whole GPUs only. `auto` asks a cluster for none.
    """
    if wanted == "cpu" or (wanted == "auto" and not (local and _any_gpu())):
        return 0
    return 0 if local and fraction < 1 else 1


@functools.cache
def _any_gpu() -> bool:
    return bool(gpu.visible())


@contextlib.contextmanager
def device(
    key: str, wanted: Wanted, fraction: float, granted: int, what: str
) -> Iterator[Literal["cuda", "cpu"]]:
    """Lease a GPU for this process, before anything of CUDA is loaded, and give it back after.

    A whole GPU is taken only where Snakemake granted one.

    Args:
        key: section of the configuration, for messages.
        wanted: its `device`.
        fraction: its `gpu_fraction`.
        granted: GPUs that Snakemake granted.
        what: the work, as `python -m spark_trainer gpus` shows it.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if wanted == "cpu":
        yield "cpu"
    elif (granted or fraction < 1) and gpu.visible():
        with gpu.lease(1, fraction, what) as lease, _exported(lease.environment):
            log.logger.info("%s on GPU %s", what, ", ".join(lease.devices))
            yield "cuda"
    elif wanted == "auto":
        log.logger.warning("%s on the CPU: no GPU, and %s.device is auto", what, key)
        yield "cpu"
    else:
        why = "Snakemake granted none" if gpu.visible() else "there is none here"
        raise ConfigError(f"{key}.device: cuda, but no GPU: {why}; expected auto or cpu then")


@contextlib.contextmanager
def _exported(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while: a later lease is to see every device again."""
    before = {name: os.environ.pop(name) for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)
