"""How a family learns, chosen by the `train.model_type` of a run: one module for each method."""

import importlib
import pkgutil

from spark_trainer.methods.base import Method


def find(model_type: str) -> type[Method]:
    """Return the method of a `train.model_type`.

    Raises:
        ValueError: no method answers to it.
    """
    for module in pkgutil.iter_modules(__path__):
        for found in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if not isinstance(found, type) or not issubclass(found, Method):
                continue
            if model_type in found.model_types:
                return found
    raise ValueError(f"train.model_type: no method trains {model_type}")
