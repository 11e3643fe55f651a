"""Rows of a table, wherever it lies, each with its place for messages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from spark_trainer.config import ConfigError
from spark_trainer.config.labels import HUB
from spark_trainer.data import models, questions
from spark_trainer.data.jsonl import UTF8, Broken, shown
from spark_trainer.data.plain import Text, separated
from spark_trainer.system import extras

SEPARATORS = {".csv": ",", ".tsv": "\t"}
COLUMNAR = (".parquet", ".arrow")
TABLES = (*SEPARATORS, ".json", ".jsonl", ".ndjson", *COLUMNAR)
NEEDED = f"which is not installed here: {extras.installs('datasets')}"
BATCH = 1000  # rows that are held at once


class Row(NamedTuple):
    """A row: its place, and its values by their names, or the error that says why it has none."""

    place: str
    values: dict[str, Any] | ValueError


def has_names(where: str) -> bool:
    """Tell whether a file's first line names its columns."""
    return Path(where).suffix.lower() in SEPARATORS


def rows(where: str, key: str) -> Iterator[Row]:
    """Yield the rows of a file, or of a data set at the hub.

    Args:
        where: the place, as it is configured.
        key: the setting that names it.

    Raises:
        ConfigError: it is not there, is none that can be read, or needs a package.
        MachineError: the hub or the network fails.
        Broken: it is no such file as its ending says.
    """
    if where.startswith(HUB):
        yield from _at_hub(where.removeprefix(HUB), key)
        return
    path = Path(where)
    ending = path.suffix.lower()
    if ending in COLUMNAR:
        yield from _of_columns(path, key)
    elif ending in SEPARATORS:
        yield from _of_lines(path, SEPARATORS[ending], key)
    elif ending in TABLES:
        yield from _of_json(path, key)
    else:
        raise ConfigError(f"{key}: {path}: expected a file of {', '.join(TABLES)}, or a folder")


def _of_lines(path: Path, separator: str, key: str) -> Iterator[Row]:
    """Yield the rows of a file whose first line names its columns."""
    with open(path, "rb") as file:
        lines = separated(Text(file, f"{key}: {path}"), separator)
        first = next(lines, None)
        if first is None:
            raise Broken(f"{key}: {path}:1: expected names of columns (the file is empty)")
        names = [name.strip() for name in first.fields]
        if (other := {";", "\t", ","} & {*names[0]}) and len(names) == 1:
            got = f"{first.place}: expected columns with {shown(separator)} between them"
            raise Broken(f"{got} (got {shown(other.pop())})")
        if len(set(names)) < len(names):
            raise Broken(f"{first.place}: a column stands twice (got {shown(','.join(names))})")
        for line in lines:
            if len(line.fields) == len(names):
                yield Row(line.place, dict(zip(names, line.fields, strict=True)))
            else:
                count = len(line.fields)
                wrong = f"{count} fields; expected {len(names)}, {', '.join(names)}"
                yield Row(line.place, ValueError(wrong))


def _of_json(path: Path, key: str) -> Iterator[Row]:
    """Yield the objects of lines or of an array; or of a mapping from paths to what is said."""
    if path.suffix.lower() == ".json" and (said := _mapping(path, key)) is not None:
        for name, value in said.items():
            place = f"{key}: {path}: {shown(name)}"
            values = value if isinstance(value, dict) else {"caption": value}
            yield Row(place, {"path": name} | values)
        return
    try:
        for where, row in questions.rows(path):
            right = isinstance(row, dict | ValueError)
            wrong = None if right else ValueError(f"expected an object (got {shown(row)})")
            yield Row(f"{key}: {where}", wrong or row)
    except Broken as error:
        raise Broken(f"{key}: {error}") from None


def _mapping(path: Path, key: str) -> dict[str, Any] | None:
    """Read a file that holds one object; None where it holds an array or lines."""
    content = path.read_bytes().removeprefix(UTF8)
    if not content.lstrip().startswith(b"{"):
        return None
    try:
        said = json.loads(content)
    except UnicodeDecodeError as error:
        raise Broken(f"{key}: {path}: no UTF-8: byte {error.start}") from None
    except RecursionError:
        raise Broken(f"{key}: {path}: no JSON that can be read: too deeply nested") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # lines, each an object
            return None
        raise Broken(f"{key}: {path}:{error.lineno}: no JSON: {error.msg}") from None
    return dict(said)


def _of_columns(path: Path, key: str) -> Iterator[Row]:
    """Yield the rows of a Parquet or Arrow file, a part of it at a time."""
    try:
        import pyarrow as pa
        from pyarrow import ipc, parquet
    except ImportError:
        raise ConfigError(f"{key}: {path} needs the package pyarrow, {NEEDED}") from None
    try:
        with pa.memory_map(str(path)) as source:
            if path.suffix.lower() == ".parquet":
                batches = parquet.ParquetFile(source).iter_batches(batch_size=BATCH)
            elif source.read(6) == b"ARROW1":
                opened = ipc.open_file(source)
                batches = (opened.get_batch(n) for n in range(opened.num_record_batches))
            else:
                source.seek(0)
                batches = iter(ipc.open_stream(source))
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    yield Row(f"{key}: {path}: row {number}", row)
                    number += 1
    except pa.ArrowInvalid as error:
        said = str(error).partition("\n")[0]
        raise Broken(f"{key}: {path}: no {path.suffix[1:].title()} file: {said}") from None


def _at_hub(named: str, key: str) -> Iterator[Row]:
    """Yield the rows of every split; what plays or shows something is not decoded."""
    name, _, revision = named.partition("@")
    try:
        from datasets import Audio, Image, Video, load_dataset
    except ImportError:
        raise ConfigError(f"{key}: {HUB}{named} needs the package datasets, {NEEDED}") from None
    try:
        splits = load_dataset(name, revision=revision or None)
    except Exception as error:  # of the hub, the network, or a data set that can't be read
        said = " ".join(str(error).split()) or type(error).__name__
        raise models.unusable(f"{key}: {HUB}{named}: {said}", error) from None
    for split, data in splits.items():
        shown_columns = [
            n for n, kind in data.features.items() if isinstance(kind, Audio | Image | Video)
        ]
        for column in shown_columns:
            data = data.cast_column(column, type(data.features[column])(decode=False))
        for number, row in enumerate(data):
            yield Row(f"{key}: {HUB}{named}: {split}[{number}]", row)
