"""What stands in `meta` of a manifest line: one table of keys and types, from the steps' sections.

Our own lines have every key, null where there is nothing to say, so that readers which infer a
schema find the same one everywhere. Lines of others may lack keys and have more of them.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from pathlib import PurePosixPath
from typing import Any

from spark_trainer.config import STEP_SECTIONS
from spark_trainer.config.section import ValueType
from spark_trainer.data.jsonl import shown

Check = Callable[[Any], bool]

SOURCES: dict[str, ValueType] = {"source_path": "text", "sources": ["text"]}
SIGNED: ValueType = {"author": "text", "time": "text"}
# What people said; see corrections.py.
BY_HAND: dict[str, ValueType] = {
    "flag": "text",
    "corrected": dict.fromkeys(("caption", "transcript", "flag"), SIGNED),
}
KEYS: dict[str, ValueType] = (
    SOURCES
    | {key: kind for section in STEP_SECTIONS.values() for key, kind in section.MANIFEST.items()}
    | BY_HAND
)
NEEDED = ("dir", "fps", "frames")  # of a pose
FOLDERS = ("pose_dir", "face_dir", "background_dir", "mask_dir")  # of a user's own videos
CHECKED: dict[str, ValueType] = KEYS | dict.fromkeys(FOLDERS, "path")

LONGEST_NAME, LONGEST_PATH = 255, 4000  # bytes that file systems take

HALVES = re.compile("[\ud800-\udfff]")  # of characters; no UTF-8 spells them

EXPECTED = {
    "text": "a text",
    "number": "a number",
    "whole": "a whole number",
    "flag": "true or false",
    "path": "a folder",
}
TYPES: dict[str, set[type]] = {
    "text": {str},
    "number": {int, float},
    "whole": {int},
    "flag": {bool},
    "path": {str},
}
DTYPES = {"text": "string", "number": "float64", "whole": "int64", "flag": "bool", "path": "string"}
OURS = {"number": float, "whole": int, "flag": bool}  # a number of one type is one of one spelling


def typed(key: str, value: Any, kind: ValueType) -> Any:
    """Return a step's fact with every key of its type, and with numbers of one type.

    Raises:
        ValueError: it is of another type; the message says where, and what was expected.
    """
    try:
        return _filled(value, kind)
    except (ValueError, TypeError, AttributeError):
        plain = json.loads(json.dumps(value, default=str))
        wrong = next(_wrong(plain, kind, key), f"{key}: expected {_expected(kind)} or null")
        raise ValueError(wrong) from None


def _filled(value: Any, kind: ValueType) -> Any:
    if value is None:
        return None
    if isinstance(kind, list):
        if not isinstance(value, list | tuple):  # a text has items too
            raise TypeError(value)
        return [_filled(item, kind[0]) for item in value]
    if isinstance(kind, dict):
        keys = value if kind is KEYS["captions"] else kind  # the captioners that are configured
        return {key: _filled(value.get(key), kind[key]) for key in keys}
    made = OURS.get(kind, str)(value)
    if made != value:  # 3.5 is no whole number, 3 no text
        raise ValueError(value)
    return made


def problems(meta: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the known keys; null is right everywhere."""
    if not IS_RIGHT(meta):
        for key, value in meta.items():
            if value is not None and key in CHECKED:
                yield from _wrong(value, CHECKED[key], f"meta.{key}")
        return
    for name in FOLDERS:
        if meta.get(name) is not None and (problem := path_problem(meta[name])):
            yield f"meta.{name}: {problem}"
    if pose := meta.get("pose"):
        if any(pose.get(key) is None for key in NEEDED):
            yield f"meta.pose: expected {', '.join(NEEDED)}"
        elif problem := path_problem(pose["dir"]):
            yield f"meta.pose.dir: {problem}"
    times = meta.get("frame_times")
    if times and (times != sorted(times) or times[0] < 0):  # sorting what is sorted is one pass
        yield "meta.frame_times: expected seconds from 0 on, in ascending order"


def path_problem(value: str) -> str | None:
    """Return what is wrong with a path of a manifest; None where nothing is.

    Symbolic links are followed: whoever put them into the folder meant them.
    """
    plain = value.isascii() and 0 < len(value) <= LONGEST_NAME and value[0] != "/"
    if plain and ".." not in value and "\0" not in value:
        return None
    try:
        spelled = os.fsencode(value)
    except UnicodeEncodeError:
        return f"{shown(value)} is no name of a file"
    too_long = len(spelled) > LONGEST_PATH or max(map(len, spelled.split(b"/"))) > LONGEST_NAME
    if not value or "\0" in value or too_long:
        return f"{shown(value)} is no name of a file"
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        return f"expected a path below the manifest's own folder (got {shown(value)})"
    return None


def features(keys: Mapping[str, ValueType]) -> dict[str, Any]:
    """Return the types of our own lines, as `datasets.Features.from_dict` takes them.

    Args:
        keys: that the user's files add to `meta`, and their types.
    """
    line: dict[str, ValueType] = dict.fromkeys(("id", "frames_dir", "audio"), "text")
    line |= {"meta": KEYS | dict(keys)}
    return {name: _feature(kind) for name, kind in line.items()}


def _feature(kind: ValueType) -> Any:
    if isinstance(kind, list):
        return {"feature": _feature(kind[0]), "_type": "List"}
    if isinstance(kind, dict):
        return {key: _feature(inner) for key, inner in kind.items()}
    return {"dtype": DTYPES[kind], "_type": "Value"}


def _check(kind: ValueType) -> Check:
    """Build the check of a type; every line of a manifest passes it."""
    if isinstance(kind, dict):
        return _mapping_check(kind)
    if isinstance(kind, list):
        inner, right = kind[0], _check(kind[0])
        if isinstance(inner, str):
            types, number = TYPES[inner], inner == "number"
            return lambda value: (
                type(value) is list
                and types.issuperset(map(type, value))
                and (not number or all(map(isfinite, value)))
            )
        return lambda value: type(value) is list and None not in value and all(map(right, value))
    types = TYPES[kind] | {type(None)}
    if kind == "number":
        return lambda value: type(value) in types and (value is None or isfinite(value))
    return lambda value: type(value) in types


def _mapping_check(kind: dict[str, ValueType]) -> Check:
    plain = {
        key: TYPES[inner] | {type(None)} for key, inner in kind.items() if isinstance(inner, str)
    }
    others = {key: _check(inner) for key, inner in kind.items() if not isinstance(inner, str)}

    def right(value: Any) -> bool:
        if value is None:
            return True
        if type(value) is not dict:
            return False
        for key, item in value.items():
            types = plain.get(key)
            if types is not None:
                if type(item) not in types or (type(item) is float and not isfinite(item)):
                    return False
            elif key in others and item is not None and not others[key](item):
                return False
        return True

    return right


IS_RIGHT = _check(CHECKED)


def _wrong(value: Any, kind: ValueType, where: str, nullable: bool = True) -> Iterator[str]:
    if _check(kind)(value) and (nullable or value is not None):
        return
    if isinstance(kind, dict) and isinstance(value, dict):
        for key, item in value.items():
            if key in kind and item is not None:
                yield from _wrong(item, kind[key], f"{where}.{key}")
    elif isinstance(kind, list) and isinstance(value, list):
        place = next(n for n, item in enumerate(value) if not _check(kind)([item]))
        yield from _wrong(value[place], kind[0], f"{where}[{place}]", nullable=False)
    else:
        null = " or null" if nullable else ""
        yield f"{where}: expected {_expected(kind)}{null} (got {shown(value)})"


def _expected(kind: ValueType) -> str:
    if isinstance(kind, str):
        return EXPECTED[kind]
    return "a list" if isinstance(kind, list) else "a mapping"
