"""Trainable model families: one module each, found by what a checkpoint says of itself.

This folder is the registry: a family is a class in a module of its own here, which inherits what
its kind does (kinds/) and names its checkpoints in `model_types`.
"""

import contextlib
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from spark_trainer.data.files import Broken, read_json
from spark_trainer.families.kinds.base import Kind


def known() -> dict[str, Kind]:
    """Return every family by the name of its module."""
    found = {}
    for info in pkgutil.iter_modules(__path__):
        if not info.ispkg:
            module = importlib.import_module(f"{__name__}.{info.name}")
            found[info.name] = _family(module)()
    return found


def _family(module: ModuleType) -> type[Kind]:
    """Return the one family that a module defines."""
    [family] = [
        found
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, Kind)
        and found.__module__ == module.__name__
    ]
    return family


def find(model_name: str) -> Kind:
    """Return the family that trains a checkpoint.

    Args:
        model_name: hub id, or a folder with `config.json` or `model_index.json`.

    Raises:
        ValueError: no family trains it; the message lists those that are known.
    """
    for family in known().values():
        if family.recognises(model_name):
            return family
    model_type = _model_type(model_name)
    types: list[str] = []
    for family in known().values():
        if model_type in family.model_types:
            return family
        types += family.model_types
    raise ValueError(
        f"train.model_name: {model_name} is a {model_type!r} checkpoint; "
        f"expected one of: {', '.join(sorted(types))}"
    )


def trained_components(model_name: str) -> tuple[str, ...]:
    """Return the components of a local pipeline that are trained; the others are frozen encoders.

    None are of any other checkpoint, nor of a pipeline that no family trains, which is refused
    before a run starts.
    """
    folder = Path(model_name).expanduser()
    if not (folder / "model_index.json").is_file():
        return ()
    try:
        return find(str(folder)).trained_components
    except ValueError:
        return ()


def _model_type(model_name: str) -> str | None:
    """Return what a checkpoint's config.json or a pipeline's model_index.json says that it is."""
    folder = Path(model_name)
    if not folder.is_dir():
        return _model_type_of_hub(model_name)
    for file, key in (("model_index.json", "_class_name"), ("config.json", "model_type")):
        if (folder / file).is_file():
            try:
                told: dict[str, Any] = read_json(folder / file, dict)
            except Broken as error:
                raise ValueError(f"train.model_name: {error}") from None
            return told.get(key)
    raise ValueError(f"train.model_name: {model_name} holds no config.json and no model_index.json")


def _model_type_of_hub(model_name: str) -> str | None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id
    from transformers import PretrainedConfig

    try:
        validate_repo_id(model_name)
    except HFValidationError:  # so a folder was meant
        raise ValueError(f"train.model_name: no such folder: {model_name}") from None
    told: dict[str, Any] = {}
    try:
        told, _ = PretrainedConfig.get_config_dict(model_name)
    except OSError:
        from diffusers import DiffusionPipeline

        with contextlib.suppress(OSError):
            told = DiffusionPipeline.load_config(model_name)
        if "_class_name" not in told:
            raise
    return told.get("model_type") or told.get("_class_name")
