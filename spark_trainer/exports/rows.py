"""A video as a row of a table: the same columns and types in every row of every split.

Readers such as `datasets` take types from the first rows and refuse others later. So a text that
nobody knows is empty, not null, and a number that is not known of every video has no column. All
of `meta` is there as well, spelled as JSON in one column.
"""

from typing import Any

from spark_trainer.data.files import canonical_json
from spark_trainer.exports.clips import NUMBERS, Clip
from spark_trainer.exports.dataset import DataSet

TEXTS = ("caption", "captioner", "transcript", "language", "source_path")
WHOLE = ("width", "height")


def row(data: DataSet, clip: Clip) -> dict[str, Any]:
    """Return what is known of a video."""
    said = clip.meta
    numbers = {key: _number(key, said[key]) for key in data.chosen.numbers}
    facts = {key: said.get(key) or "" for key, kind in data.facts.items() if kind is str}
    found = {"id": clip.id, **numbers, **{key: said.get(key) or "" for key in TEXTS}, **facts}
    if clip.texts:
        found["text"] = clip.text
    return found | {"meta": canonical_json(said)}


def unknown(data: DataSet) -> list[str]:
    """Name the numbers that have no column, as some video lacks them."""
    return [key for key in NUMBERS if key not in data.chosen.numbers]


def _number(key: str, value: float) -> float | int:
    return int(value) if key in WHOLE else float(value)
