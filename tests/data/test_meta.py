"""One table of keys and types: our own lines have all of them, and others' tools can load them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data import manifest, meta
from spark_trainer.data.corrections import Correction, Remark
from spark_trainer.data.joining import named_sources
from spark_trainer.data.layout import Video
from spark_trainer.steps import manifest as ours
from spark_trainer.steps.audio import AudioRecord
from spark_trainer.steps.frames import FramesRecord
from spark_trainer.steps.pose import PoseRecord
from spark_trainer.steps.record import Record, Status
from spark_trainer.steps.select import SelectRecord
from spark_trainer.steps.transcript import TranscriptRecord

SEGMENT = {"text": "a", "start": 1, "end": 2.5, "words": [{"text": "a", "start": 1, "end": 2}]}
CAPTION = {"caption": "c", "model": "m", "revision": "r", "prompt": None, "score": 1}
VIDEO = Video("0" * 64, "00")
FLAGGED = Correction(
    video=VIDEO.hash,
    flag=Remark(text="look again", author="Ada", time="2026-11-27T09:30:00+00:00"),
)
RECORDS: dict[str, Record] = {
    "frames": FramesRecord(
        duration=6,
        times=[0, 1.5],
        fps=25,
        width=640,
        height=480,
        motion=1,
        container_duration=5.5,
        container_fps=25,
        dynamic_range="sdr",
        interlaced=False,
        damaged="cut",
    ),
    "audio": AudioRecord(status=Status.NONE, reason="silence", duration=6),
    "transcript": TranscriptRecord(
        status=Status.NONE,
        reason="no voice",
        text="a",
        segments=[SEGMENT],
        language="en",
        backend="faster-whisper",
        model="m",
        revision="r",
        tracks=(TranscriptRecord(track=1, language="de", text="b"),),
    ),
    "select": SelectRecord(
        status=Status.NONE,
        reason="nothing said",
        caption="c",
        backend="blip",
        model="m",
        revision="r",
        prompt="p",
        captions={"blip": CAPTION, "qwen2-vl": None},
        agreement=1,
    ),
    "pose": PoseRecord(
        fps=16, frames=3, width=6, height=6, people=1, person_lost=[], face_lost=[[0, 1]]
    ),
}


def line(number: int, records: dict[str, Record]) -> manifest.Entry:
    """A line of our own, from records of the steps."""
    made = ours.line(VIDEO, records, FLAGGED if records else None)
    facts = made["meta"] | named_sources(["x" * 300])
    return {"id": f"{number:064x}", "frames_dir": None, "audio": None, "meta": facts}


def types(value: Any) -> Any:
    """The type of a value, null left out."""
    if isinstance(value, dict):
        return {key: types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [types(value[0])] if value else []
    return type(value)


def test_every_line_has_every_key_and_one_type_each() -> None:
    full, empty = line(1, RECORDS)["meta"], line(0, {})["meta"]
    assert full.keys() == meta.KEYS.keys()
    assert empty.keys() == meta.KEYS.keys() - meta.BY_HAND.keys()  # for what a person said
    lost = line(1, RECORDS | {"pose": PoseRecord.nothing("too dark")})["meta"]
    full["no_pose"] = lost["no_pose"]  # which stands where there is no pose
    assert None not in full.values()
    assert [key for key, value in empty.items() if value is not None] == ["source_path", "sources"]
    assert list(meta.problems(full)) == list(meta.problems(empty)) == []
    spelled = replace(RECORDS["frames"], duration=6.0, fps=25.0)
    exact = line(2, RECORDS | {"frames": spelled})["meta"] | {"no_pose": "too dark"}
    assert types(full) == types(exact)
    assert full["captions"].keys() == {"blip", "qwen2-vl"}
    assert full["transcripts"][0].keys() == {*meta.KEYS["transcripts"][0]}  # type: ignore[index]


def test_datasets_loads_our_lines_at_any_size(tmp_path: Path) -> None:
    """It guesses types from the first 10 MB, where a key may be null in every line."""
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "manifest_v1.jsonl"
    count = 14_000
    rows = (line(n, {} if n < count else RECORDS) for n in range(count + 1))
    manifest.write(path, rows)
    assert path.stat().st_size > 12 << 20
    loaded = datasets.load_dataset(
        "json",
        data_files=str(path),
        features=datasets.Features.from_dict(meta.features({})),
        split="train",
        cache_dir=str(tmp_path),
    )
    assert len(loaded) == count + 1
    first, last = loaded[0]["meta"], loaded[count]["meta"]
    assert (first["caption"], last["caption"]) == (None, "c")
    assert last["segments"] == [SEGMENT]
    assert last["captions"]["blip"] == CAPTION
    assert last["captions"]["qwen2-vl"] is None
    assert last["pose"]["face_lost"] == [[0, 1]]
