"""TOML as far as it is written here: texts, numbers and lists have JSON's spelling."""

import json

Value = str | int | float | bool | list[int] | list[list[int]]


def assigned(values: dict[str, Value]) -> str:
    """Return lines that assign values."""
    return "".join(f"{key} = {_spelled(value)}\n" for key, value in values.items())


def _spelled(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
