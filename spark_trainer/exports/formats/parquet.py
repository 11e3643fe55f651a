"""Parquet: a table for each split, with the types of the manifest, for `datasets` and others.

Columns are those that people ask for most, then `meta` as in the manifest, and with `media: copy`
the videos' bytes as `datasets.Video` keeps them (datasets, src/datasets/features/video.py).
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from spark_trainer.exports.base import Format
from spark_trainer.exports.clips import NUMBERS, Clip
from spark_trainer.exports.dataset import DataSet
from spark_trainer.exports.rows import TEXTS as COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

ROWS, BYTES = 1000, 128 << 20  # of a row group, which is held in memory


def write(data: DataSet) -> None:
    """Write a table of each split."""
    import pyarrow as pa
    from pyarrow import parquet

    types = _types(data)
    fields = [pa.field(name, _arrow(kind)) for name, kind in types.items()]
    note = {"huggingface": json.dumps({"info": {"features": types}}, sort_keys=True)}
    schema = pa.schema(fields, metadata=note)
    for split in data.splits:
        with parquet.ParquetWriter(data.root / f"{split}.parquet", schema) as file:
            for rows in _groups(data, data.clips(split)):
                file.write_table(pa.Table.from_pylist(rows, schema=schema))


def loading(data: DataSet) -> str:
    """Return the lines that load it."""
    name = f"./{data.folder.name}"  # without a dot, `parquet` means a kind to `datasets`
    lines = (
        f'load_dataset("{name}")',
        *(f'{one}.read_parquet("{name}/train.parquet")' for one in ("pandas", "polars", "duckdb")),
    )
    imports = "from datasets import load_dataset\nimport duckdb, pandas, polars"
    return "\n".join(["```python", imports, "", *lines, "```"])


def _groups(data: DataSet, clips: Iterator[Clip]) -> Iterator[list[dict[str, Any]]]:
    """Yield rows, as many at a time as are held in memory."""
    rows, size = list[dict[str, Any]](), 0
    for clip in clips:
        rows.append(_row(data, clip))
        size += len(rows[-1]["video"]["bytes"]) if "video" in rows[-1] else 0
        if len(rows) >= ROWS or size >= BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _row(data: DataSet, clip: Clip) -> dict[str, Any]:
    row = {"id": clip.id} | {key: clip.meta.get(key) for key in (*NUMBERS, *COLUMNS)}
    if clip.texts:
        row["text"] = clip.text
    if data.settings.media == "copy":
        row["video"] = {"bytes": clip.source.read_bytes(), "path": clip.file}
    data.advance()
    return row | {"meta": clip.meta}


def _types(data: DataSet) -> dict[str, Any]:
    """Return the types of the columns, as `datasets` spells them."""
    meta, text = data.features["meta"], {"dtype": "string", "_type": "Value"}
    types = {"id": text} | {key: meta[key] for key in NUMBERS}
    types |= {key: meta.get(key, text) for key in COLUMNS}
    if "text" in data.settings.model_fields_set:
        types["text"] = text
    if data.settings.media == "copy":
        types["video"] = {"_type": "Video"}
    return types | {"meta": meta}


def _arrow(kind: dict[str, Any]) -> "pa.DataType":
    """Return a type as Arrow has it."""
    import pyarrow as pa

    named = kind.get("_type")
    if named == "Value":
        return pa.type_for_alias(kind["dtype"])
    if named == "List":
        return pa.list_(_arrow(kind["feature"]))
    if named == "Video":
        return pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    return pa.struct([pa.field(name, _arrow(inner)) for name, inner in kind.items()])


FORMAT = Format(
    read_by="Hugging Face `datasets`, pandas, DuckDB, Polars",
    packages=("pyarrow",),
    media=("none", "copy"),
    write=write,
    loading=loading,
)
