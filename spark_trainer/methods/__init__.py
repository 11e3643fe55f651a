"""How a family learns, chosen by the `train.model_type` of a run: one module for each method."""

import importlib
import pkgutil
from collections.abc import Iterator

from spark_trainer.config.model import MODEL_TYPES
from spark_trainer.methods.base import Method


def find(model_type: str) -> type[Method]:
    """Return the method of a `train.model_type`.

    Raises:
        ValueError: no method answers to it.
    """
    for method in _known():
        if model_type in method.model_types:
            return method
    raise ValueError(f"train.model_type: no method trains {model_type}")


def model_types(kind: str) -> tuple[str, ...]:
    """Return the values of `train.model_type` that train families of a kind."""
    known = {model_type for method in _known() for model_type in method.model_types}
    return tuple(one for one, trained in MODEL_TYPES.items() if trained == kind and one in known)


def _known() -> Iterator[type[Method]]:
    """Yield the methods that the modules of this folder define."""
    for name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{name}")
        for found in vars(module).values():
            own = getattr(found, "__module__", None) == module.__name__
            if own and isinstance(found, type) and issubclass(found, Method):
                yield found
