"""The formats by name: whatever module lies here can be asked for; base.py says what it holds."""

import importlib

from spark_trainer.exports.base import Format


def find(name: str) -> Format:
    """Return a format."""
    found: Format = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").FORMAT
    return found
