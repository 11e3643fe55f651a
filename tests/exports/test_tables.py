"""20,006 lines of a manifest in `datasets`, pandas, DuckDB and Polars, as docs/exports.md says.

Readers look at the first rows for types: here what is rare stands in the last lines alone.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import Export
from spark_trainer.data import manifest, meta
from spark_trainer.data.layout import Layout
from spark_trainer.exports import make, resolved

from .conftest import EVERY, FACTS, SAID

LINES, RARE = 20_006, 6
NO_BENCH = "is in the dependency group bench"
READERS = ("datasets", "pandas", "duckdb", "polars")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    found = Layout(tmp_path_factory.mktemp("large"))
    rare = {"segments": SAID, "transcript": "Hello", "views": 3, "motion": 0.5, "language": "en"}
    rare["captions"] = {"blip": {"caption": "A dog.", "model": "m", "revision": None}}

    def line(number: int) -> manifest.Entry:
        known = EVERY | {"caption": f"Clip {number}", "sources": ["a.mp4"], "duration": 2.0}
        known |= rare if number >= LINES - RARE else {}
        return {"id": f"{number:064x}", "frames_dir": None, "audio": None, "meta": known}

    assert manifest.write(found.manifest, map(line, range(LINES))) == LINES
    types = json.dumps(meta.features(FACTS))
    found.manifest.with_suffix(".features.json").write_text(types, encoding="utf-8")
    return found


def read(by: str, path: Path) -> tuple[int, int]:
    """Count lines, and those that say when something is said."""
    tool = pytest.importorskip(by, reason=f"{by} {NO_BENCH}")
    if by == "datasets":
        types = json.loads(path.with_suffix(".features.json").read_text(encoding="utf-8"))
        features = tool.Features.from_dict(types)
        cache = str(path.parent / "cache")
        rows: Any = tool.load_dataset(
            "json", data_files=str(path), features=features, split="train", cache_dir=cache
        )
        said = sum(one["segments"] is not None for one in rows["meta"])
        return len(rows), said
    if by == "pandas":
        table = tool.read_json(path, lines=True)
        return len(table), sum(one["segments"] is not None for one in table["meta"])
    if by == "duckdb":
        query = "select count(*), count(meta.segments) from read_json(?, sample_size=-1)"
        return tuple(tool.execute(query, [str(path)]).fetchone())  # type: ignore[return-value]
    table = tool.read_ndjson(path, infer_schema_length=None)
    said = table["meta"].struct.field("segments").is_not_null().sum()
    return len(table), said


@pytest.mark.parametrize("by", READERS)
def test_the_manifest_itself(layout: Layout, by: str) -> None:
    assert read(by, layout.manifest) == (LINES, RARE)


@pytest.fixture(scope="module")
def table(layout: Layout) -> Path:
    pytest.importorskip("pyarrow")
    chosen = resolved(Export.model_validate({"to": "parquet", "split": {"validation": 0}}), "data")
    made = make(chosen, layout, layout.root / "table", "data")
    assert made.note.videos == {"train": LINES}
    return made.folder


@pytest.mark.parametrize("by", READERS)
def test_as_parquet_without_a_word_about_types(table: Path, by: str) -> None:
    tool = pytest.importorskip(by, reason=f"{by} {NO_BENCH}")
    path = table / "train.parquet"
    if by == "datasets":
        rows: Any = tool.load_dataset(str(table), split="train", cache_dir=str(table.parent / "c"))
        said = sum(one is not None for one in rows["transcript"])
        assert (len(rows), said) == (LINES, RARE)
        return
    if by == "duckdb":
        query = "select count(*), count(transcript), count(meta.segments) from read_parquet(?)"
        assert tool.execute(query, [str(path)]).fetchone() == (LINES, RARE, RARE)
        return
    found = tool.read_parquet(path)
    said = found["transcript"].notna() if by == "pandas" else found["transcript"].is_not_null()
    assert (len(found), said.sum()) == (LINES, RARE)
