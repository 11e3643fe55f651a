"""A record on disk: what earlier versions wrote is read, and what is written is read again."""

import json
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.data.files import Broken, canonical_json, digest
from spark_trainer.steps.audio import AudioRecord
from spark_trainer.steps.caption import CaptionRecord
from spark_trainer.steps.frames import FramesRecord
from spark_trainer.steps.record import Record, Status
from spark_trainer.steps.transcript import TranscriptRecord

MADE: dict[str, Any] = {"step": "audio", "version": 3, "fingerprint": "f", "video": "v"}
HEARD: dict[str, Any] = {
    "status": "ok",
    "codec": "flac",
    "track": 0,
    "track_language": "eng",
    "duration": 2.0,
    "peak_db": None,
}
OTHER = HEARD | {"track": 1, "reason": "damaged: cut", "damaged": "cut"}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (AudioRecord, MADE | HEARD | {"tracks": [{"track": 0}], "others": [OTHER]}),
        (AudioRecord, MADE | HEARD | {"others": []}),
        (FramesRecord, {"status": "rejected", "reason": "no video stream"}),
        (FramesRecord, {"status": "ok", "times": [0.0], "damaged": "x", "reason": "damaged: x"}),
        (TranscriptRecord, {"status": "none", "why": "silence", "text": "", "segments": []}),
        (CaptionRecord, {"status": "none", "why": "said nothing", "caption": None}),
        (CaptionRecord, {"status": "ok", "caption": "a dog", "commit": None, "device": "cpu"}),
        (Record, {"status": "failed", "reason": "no space left"}),
    ],
)
def test_what_was_written_is_read_and_written_again(
    kind: type[Record], said: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    path.write_text(canonical_json(said))
    record = kind.read(path)
    record.write(path)
    written = json.loads(path.read_text())
    assert written.pop("checksum") == digest(said)
    assert written == said
    assert kind.read(path) == record


def test_a_none_tells_why_and_may_warn_of_more() -> None:
    said = {"status": "none", "why": "no audio track 2", "reason": "the file has 2"}
    record = AudioRecord.from_json(said)
    assert (record.status, record.reason) == (Status.NONE, "no audio track 2")
    assert record.complaint == record.warning == "the file has 2"
    assert record.to_json() == said | {"peak_db": None}


def test_other_tracks_are_records_too() -> None:
    record = AudioRecord.from_json(MADE | HEARD | {"others": [OTHER]})
    assert record.others is not None
    assert [(other.track, other.warning) for other in record.others] == [(1, "damaged: cut")]


@pytest.mark.parametrize("content", ["{}", '{"status": "odd"}', '{"status": "ok", "others": 1}'])
def test_what_is_no_record_is_broken(content: str, tmp_path: Path) -> None:
    path = tmp_path / "audio.json"
    path.write_text(content)
    assert AudioRecord.find(path) is None
    with pytest.raises(Broken, match="no record"):
        AudioRecord.read(path)
    assert AudioRecord.find(tmp_path / "nothing.json") is None
