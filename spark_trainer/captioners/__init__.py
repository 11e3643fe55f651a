"""Captioning behind one interface; one module per backend, named like its configuration value.

`base` holds the interface, `backends` the modules and what each offers, `network` what runs a
checkpoint with transformers.
"""

from pathlib import Path

from spark_trainer.captioners.backends import Backend, backend, key, model_name, prompt
from spark_trainer.captioners.base import Captioner, Prepared, Shown, Trouble
from spark_trainer.config import Captioning
from spark_trainer.data import models

__all__ = [
    "Backend",
    "Captioner",
    "Prepared",
    "Shown",
    "Trouble",
    "backend",
    "check",
    "identity",
    "key",
    "load",
    "model_name",
    "prompt",
]


def load(settings: Captioning, device: str = "cpu", threads: int = 1) -> Captioner:
    """Load the configured backend and its model.

    Args:
        settings: those of one captioner; `device` decides instead of `settings.device`.
        device: `cuda`, the first visible GPU, or `cpu`.
        threads: cores that the model may use on a CPU.

    Raises:
        ConfigError: the checkpoint is missing, incomplete, or for another backend.
        MachineError: the disk, the network, the hub or the engine fails.
    """
    check(settings)
    if settings.engine == "server":
        from spark_trainer.captioners.server import Server

        return Server(settings)
    if settings.engine == "vllm":
        from spark_trainer.captioners.vllm import Vllm

        return Vllm(settings, threads)
    return backend(settings.captioner_backend).load(settings, device, threads)


def check(settings: Captioning) -> None:
    """Refuse a checkpoint that the backend can't use, as far as small files show it.

    Raises:
        ConfigError: a local checkpoint is missing, incomplete, or for another backend.
    """
    name = model_name(settings)
    if name is not None and settings.engine != "server":
        models.check(name, backend(settings.captioner_backend).MODEL_TYPES, key(settings))


def identity(settings: Captioning, cache: Path) -> str | None:
    """Return what the model's name stands for: a local folder's digest, a hub id's revision.

    Raises:
        ConfigError: as `check`.
    """
    check(settings)
    name = model_name(settings)
    return None if name is None else models.identity(name, cache, settings.revision)
