"""TOML as far as it is written here: texts, numbers and lists have JSON's spelling."""

import json
from collections.abc import Mapping


def assigned(values: Mapping[str, object]) -> str:
    """Return lines that assign values."""
    return "".join(f"{key} = {_spelled(value)}\n" for key, value in values.items())


def _spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
