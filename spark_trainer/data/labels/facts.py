"""What labels tell for `meta` of the manifest: keys of the user's own, each of one type."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from spark_trainer.config import STEP_SECTIONS
from spark_trainer.config.section import ValueType
from spark_trainer.data.labels.gathering import Label
from spark_trainer.data.questions import ITEMS

# Keys of a manifest's line that nobody else may set.
TAKEN = {
    *("id", "frames_dir", "audio", "meta", "source_path", "sources", "questions", "flag"),
    *("corrected", "pose_dir", "face_dir", "background_dir", "mask_dir"),
    *(key for section in STEP_SECTIONS.values() for key in section.MANIFEST),
}


Facts = dict[str, Any]


def typed(found: dict[str, Label]) -> tuple[dict[str, ValueType], list[str]]:
    """Settle the type of each key over all videos, and spell the values so, in place.

    Values of several types, and mappings, become texts.

    Returns:
        The keys with their types, and remarks about those that are left out.
    """
    left = {key for label in found.values() for key in label.content if key in TAKEN}
    keys = _types(label.content for label in found.values())
    keys = {key: kind for key, kind in keys.items() if key not in left}
    for video, label in found.items():
        found[video] = label._replace(content=_spelled(label.content, keys))
    named = ", ".join(sorted(left))
    why = "as the manifest has keys of that name"
    return keys, [f"labels.meta: left out, {why}: {named}"] if left else []


def typed_questions(found: dict[str, Label]) -> dict[str, ValueType]:
    """Settle the types of what questions hold, and spell the values so, in place."""
    keys = _types(item for label in found.values() for item in label.content)
    for video, label in found.items():
        found[video] = label._replace(content=[_spelled(item, keys) for item in label.content])
    return {ITEMS: [keys]} if keys else {}


def _types(facts: Iterable[Facts]) -> dict[str, ValueType]:
    seen: dict[str, list[ValueType]] = {}
    for one in facts:
        for key, value in one.items():
            kinds = seen.setdefault(key, [])
            if value is not None and (kind := _kind(value)) not in kinds:
                kinds.append(kind)
    return {key: _common(kinds) for key, kinds in sorted(seen.items())}


def _kind(value: Any) -> ValueType:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int):
        return "whole"
    if isinstance(value, float):
        return "number"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ["text"]
    return "text"


def _common(kinds: Iterable[ValueType]) -> ValueType:
    every = [*kinds]
    if len(every) == 1:
        return every[0]
    if not every:
        return "text"
    return "number" if all(kind in ("whole", "number") for kind in every) else "text"


def _spelled(facts: Facts, keys: Mapping[str, ValueType]) -> Facts:
    return {key: _value(value, keys[key]) for key, value in facts.items() if key in keys}


def _value(value: Any, kind: ValueType) -> Any:
    if value is None:
        return None
    if kind == "text" and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return float(value) if kind == "number" else value
