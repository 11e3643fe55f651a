"""Splits and samples of the training data."""

import hashlib
import json
import resource
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spark_trainer.config import Run, Split
from spark_trainer.data import dataset
from spark_trainer.data.dataset import VideoFrameDataset, split_of
from spark_trainer.data.sample import Needs, Unusable
from spark_trainer.families.animatediff import AnimateDiff

HASHES = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(2000)]


def test_split_has_the_shares_asked_for_and_is_decided_by_content() -> None:
    split = Split(validation=0.2, test=0.1)
    parts = [split_of(h, split) for h in HASHES]
    assert parts == [split_of(h, split) for h in HASHES]
    assert 0.17 < parts.count("validation") / len(parts) < 0.23
    assert 0.07 < parts.count("test") / len(parts) < 0.13
    assert parts != [split_of(h, Split(validation=0.2, test=0.1, seed=1)) for h in HASHES]


def test_paths_hold_out_beside_the_share() -> None:
    split = Split(validation=0.0, test=0.1, validation_paths=("held-out/*", "*/b?.mp4"))
    assert split.holds_out
    for names in (["held-out/deep/a.mp4"], ["else.mp4", "x/b1.mp4"]):
        assert {split_of(h, split, names) for h in HASHES} == {"validation"}
    others = [split_of(h, split, ["x/held-out/a.mp4", "b1.mp4"]) for h in HASHES]
    assert others == [split_of(h, Split(validation=0.0, test=0.1)) for h in HASHES]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    entries = []
    for number, video in enumerate(sorted(HASHES[:6])):
        frames = tmp_path / "data" / video / "frames"
        frames.mkdir(parents=True)
        for frame in range(1, 7):
            Image.new("RGB", (8, 8), (number, frame * 40, 0)).save(
                frames / f"frame_{frame:06d}.jpg"
            )
        meta: dict[str, Any] = {
            "caption": f"clip {number}",
            "frame_times": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
            "duration": 6.0,
            "qa": [{"question": f"q{i}", "answer": f"a{number}{i}"} for i in range(number % 3)],
        }
        entries.append({"id": video, "frames_dir": f"{video}/frames", "audio": None, "meta": meta})
    entries[1]["meta"]["caption"] = ""
    entries[2]["frames_dir"] = None
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def read(
    manifest: Path, one_frame: bool, needs: Needs = Needs(), **settings: Any
) -> VideoFrameDataset:
    run = Run(split={"validation": 0}, **settings)
    return dataset.read(manifest, manifest.parent / "data", run, one_frame, needs)["train"]


def greens(data: VideoFrameDataset, number: int) -> list[int]:
    """Which frames a sample shows, told by their colour."""
    return [round(np.asarray(image)[0, 0, 1] / 40) for image in data[number].images]


def test_a_sample_is_a_video_or_one_of_its_frames(manifest: Path) -> None:
    frames = read(manifest, one_frame=True, clip={"num_frames": 2})
    assert (frames.num_videos, len(frames)) == (4, 8)
    assert [one.reason for one in frames.left_out] == [
        "without caption",
        "without frames",
    ]
    assert [greens(frames, number) for number in (0, 1)] == [[2], [5]]
    assert frames.first_of_each_video() == [0, 2, 4, 6]
    assert [*frames.answers()] == [frames.plan(number).answer for number in range(8)]
    videos = read(manifest, one_frame=False, clip={"num_frames": 3})
    assert (videos.num_videos, len(videos)) == (4, 4)
    assert greens(videos, 0) == [2, 4, 6]
    assert videos[0].times == (1.0, 3.0, 5.0)
    assert (videos[0].prompt, videos[0].answer) == (None, "clip 0")
    assert videos[4].video == videos[0].video


def test_who_learns_from_tags_is_told(manifest: Path) -> None:
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    for entry in entries[:4]:  # two of which can't be used
        entry["meta"]["captioner"] = "imagenet-tags"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    [remark] = read(manifest, one_frame=True).remarks
    assert remark.startswith("the captions of 2 videos are names of objects (imagenet-tags), not")
    others = {"prompt": "{question}?", "answer": "{answer}", "each": "qa"}
    assert read(manifest, one_frame=False, text=others).remarks == []
    assert read(manifest, one_frame=False, needs=Needs(text=False)).remarks == []


def test_questions_become_samples_of_their_own(manifest: Path) -> None:
    text = {"each": "qa", "prompt": "{question}?", "answer": "{answer}"}
    data = read(manifest, one_frame=False, text=text)
    found = [(data[i].prompt, data[i].answer) for i in range(len(data))]
    assert found == [("q0?", "a10"), ("q0?", "a40"), ("q0?", "a50"), ("q1?", "a51")]
    assert [*data.answers()] == [answer for _, answer in found]
    assert [one.reason for one in data.left_out] == [
        "without qa",
        "without frames",
        "without qa",
    ]


def test_random_frames_stay_in_their_part_and_are_drawn_again_each_epoch(manifest: Path) -> None:
    clip = {"num_frames": 2, "sampling": "random"}
    data = read(manifest, one_frame=False, clip=clip)
    drawn = [greens(data, epoch * len(data)) for epoch in range(40)]
    assert {first for first, _ in drawn} == {1, 2, 3}
    assert {second for _, second in drawn} == {4, 5, 6}
    again = read(manifest, one_frame=False, clip=clip)
    assert [greens(again, epoch * len(data)) for epoch in range(40)] == drawn
    other = read(manifest, one_frame=False, clip=clip, seed=1)
    assert [greens(other, epoch * len(data)) for epoch in range(40)] != drawn


def test_a_window_holds_only_its_frames(manifest: Path) -> None:
    data = read(manifest, one_frame=False, clip={"num_frames": 8, "seconds": 2.0})
    assert data[0].times == (2.0, 3.0, 4.0)


def test_frames_come_straight_from_the_video_where_asked(manifest: Path, clips: Path) -> None:
    clip = {"num_frames": 5, "source": "video", "max_side_px": 100}
    data = read(manifest, one_frame=False, clip=clip)
    sample_id = json.loads(manifest.read_text().splitlines()[0])["id"]
    link = manifest.parent / "data/.spark/videos" / sample_id
    with pytest.raises(Unusable, match=str(link)):
        data[0]
    link.parent.mkdir(parents=True)
    link.symlink_to(clips / "bunny.mp4")
    sample = data[0]
    assert sample.times == pytest.approx((0.6, 1.8, 3.0, 4.2, 5.4))
    assert [max(image.size) for image in sample.images] == [100] * 5
    assert len({image.tobytes() for image in sample.images}) == 5


def test_lengths_follow_the_samples(manifest: Path) -> None:
    data = read(manifest, one_frame=True, clip={"num_frames": 2})
    assert len(data.lengths()) == len(data)
    longer = read(
        manifest, one_frame=True, clip={"num_frames": 2}, text={"answer": "{caption}" * 9}
    )
    assert (longer.lengths() > data.lengths()).all()


def test_a_text_makes_no_clip_of_diffusion_longer(manifest: Path) -> None:
    """Its embedding is filled up to one length: the batches would only be sorted by captions."""
    keys = {"clip": {"num_frames": 2, "sizes": [[8, 8]], "fps": 1}, "model_type": "diffusion"}
    needs = AnimateDiff().needs
    data, longer = (
        read(manifest, False, needs, text={"answer": text}, **keys)
        for text in ("{caption}", "{caption}" * 9)
    )
    assert (longer.lengths() == data.lengths()).all()


def test_a_missing_frame_says_which(manifest: Path) -> None:
    data = read(manifest, one_frame=False)
    lost = manifest.parent / "data" / data[0].video / "frames" / "frame_000002.jpg"
    lost.unlink()
    with pytest.raises(Unusable, match=f"{lost}: No such file"):
        data[0]


def test_a_broken_line_is_named(manifest: Path) -> None:
    manifest.write_text(manifest.read_text() + '{"id": "x"\n')
    with pytest.raises(ValueError, match=r"manifest\.jsonl:7: no JSON"):
        read(manifest, one_frame=True)


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"caption": "hi \ud83d"}, "its text holds half a character, '\\ud83d'"),
        ({"caption": "x" * 101}, "a text of 101 characters; text.max_characters is 100"),
        ({"caption": None}, "without caption"),
    ],
)
def test_a_text_that_is_none_costs_its_own_video(
    meta: dict[str, Any], reason: str, manifest: Path
) -> None:
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    entries[3]["meta"] |= meta
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    data = read(manifest, one_frame=False, text={"max_characters": 100})
    assert (entries[3]["id"], reason) in data.left_out
    assert data.num_videos == 3


@pytest.mark.parametrize("value", [["x", "y"], {"a": "b"}])
def test_a_key_of_ones_own_must_hold_a_text_to_be_said(value: Any, manifest: Path) -> None:
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    for entry in entries:
        entry["meta"]["title"] = value
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    data = read(manifest, one_frame=False, text={"answer": "{title}"})
    assert data.num_videos == 0
    assert "title: expected a text or a number" in data.left_out[0].reason


def test_a_value_that_a_template_can_t_show_costs_its_own_video(manifest: Path) -> None:
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    for number, entry in enumerate(entries):
        entry["meta"]["year"] = 1999 if number else "unknown"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    data = read(manifest, one_frame=False, text={"answer": "{year:d}"})
    [(video, reason)] = [one for one in data.left_out if "template" in one.reason]
    assert video == entries[0]["id"]
    assert reason.startswith("its values don't fit the template")
    assert data.num_videos == len(entries) - 2  # one has no frames


def test_a_link_to_itself_says_which(manifest: Path) -> None:
    data = read(manifest, one_frame=False)
    lost = manifest.parent / "data" / data[0].video / "frames" / "frame_000002.jpg"
    lost.unlink()
    lost.symlink_to(lost)
    with pytest.raises(Unusable, match=f"{lost}: Too many levels"):
        data[0]


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"GIF8", b"no picture"])
def test_a_frame_that_is_no_picture_says_which(content: bytes, manifest: Path) -> None:
    data = read(manifest, one_frame=False)
    frame = manifest.parent / "data" / data[0].video / "frames" / "frame_000002.jpg"
    frame.write_bytes(content)
    with pytest.raises(Unusable, match=f"{frame}: cannot identify"):
        data[0]


def test_a_disk_that_fails_is_no_fault_of_a_sample(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files is an error of the same class as a file that is not there."""
    data = read(manifest, one_frame=False)
    plan = data.plan(0)
    monkeypatch.setattr(dataset, "entry_at", lambda *_: plan.entry)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    Image.init()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            data[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_reference_that_is_of_no_use_leaves_its_video_out(manifest: Path) -> None:
    """What looks at it is given the keys of the video and of the item."""
    seen: list[tuple[str, str, float]] = []

    def check(reference: str, meta: Mapping[str, Any]) -> None:
        seen.append((reference, meta["question"], meta["duration"]))
        if reference == "a51":
            raise Unusable("no option")

    text = {"each": "qa", "prompt": "{question}", "answer": "{answer}"}
    run = Run(split={"validation": 0}, text=text)
    make = partial(VideoFrameDataset, manifest, manifest.parent / "data", run, False, Needs())
    data = dataset.splits(manifest, run.split, make, check)["train"]
    assert seen == [
        *(("a10", "q0", 6.0), ("a40", "q0", 6.0)),
        *(("a50", "q0", 6.0), ("a51", "q1", 6.0)),
    ]
    assert data.num_videos == 2
    assert data.left_out[-1].reason == "no option"
    assert data[0].meta["question"] == "q0"
