"""Splits, order and samples of the training data."""

import hashlib
import json
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from spark_trainer.config import Split
from spark_trainer.data.dataset import CaptionedFrames, Sample, Unusable, order, part_of

HASHES = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(2000)]


def test_split_has_the_shares_asked_for_and_is_decided_by_content() -> None:
    split = Split(validation=0.2, test=0.1)
    parts = [part_of(h, split) for h in HASHES]
    assert parts == [part_of(h, split) for h in HASHES]
    assert 0.17 < parts.count("validation") / len(parts) < 0.23
    assert 0.07 < parts.count("test") / len(parts) < 0.13
    assert parts != [part_of(h, Split(validation=0.2, test=0.1, seed=1)) for h in HASHES]


def test_order_continues_where_it_stopped() -> None:
    whole = list(islice(order(7, seed=3), 30))
    assert sorted(whole[:7]) == list(range(7))
    assert whole[:7] != whole[7:14]
    for start in range(20):
        assert list(islice(order(7, seed=3, start=start), 10)) == whole[start : start + 10]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    entries = []
    for number, video in enumerate(sorted(HASHES[:6])):
        frames = tmp_path / "data" / video / "frames"
        frames.mkdir(parents=True)
        for frame in (1, 2, 3):
            Image.new("RGB", (8, 8), (number, frame, 0)).save(frames / f"frame_{frame:06d}.jpg")
        meta = {"caption": f"clip {number}", "frame_times": [0.0, 1.0, 2.0]}
        entries.append({"id": video, "frames_dir": f"{video}/frames", "audio": None, "meta": meta})
    entries[1]["meta"]["caption"] = ""
    entries[2]["frames_dir"] = None
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_samples_are_frames_with_their_captions(manifest: Path) -> None:
    root = manifest.parent / "data"
    data = CaptionedFrames(manifest, root, Split(validation=0), "train", frames_per_video=2)
    assert (data.num_videos, len(data)) == (4, 8)
    assert [line.partition(": ")[2] for line in data.left_out] == [
        "without a caption",
        "without frames",
    ]
    first = data[0]
    assert isinstance(first, Sample)
    assert (first.text, first.image.size) == ("clip 0", (8, 8))
    assert data.first_of_each_video() == [0, 2, 4, 6]


def test_a_missing_frame_says_which(manifest: Path) -> None:
    root = manifest.parent / "data"
    data = CaptionedFrames(manifest, root, Split(validation=0), "train", frames_per_video=1)
    lost = next(root.rglob("frame_000002.jpg"))
    for frame in root.rglob("*.jpg"):
        frame.unlink()
    found = [data[i] for i in range(len(data))]
    assert all(isinstance(item, Unusable) for item in found)
    assert any(str(lost) in item.reason for item in found if isinstance(item, Unusable))
