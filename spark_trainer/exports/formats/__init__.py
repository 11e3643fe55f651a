"""The formats by name: whatever module lies here can be asked for; base.py says what it holds."""

import importlib
from typing import cast

from spark_trainer.exports.base import Format


def find(name: str) -> Format:
    """Return the module of a format."""
    return cast(Format, importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))
