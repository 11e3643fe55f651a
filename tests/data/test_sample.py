"""What is read of a video: its frames in the size asked for, and the videos beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from spark_trainer.config import Run
from spark_trainer.data import dataset
from spark_trainer.data.dataset import VideoFrameDataset
from spark_trainer.data.encoded import EncodedFiles
from spark_trainer.data.layout import Layout
from spark_trainer.data.sample import Needs, Unusable
from spark_trainer.data.video import Writer

FULL_AND_SCALED = ("full", "scaled")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Six wide and six high videos of four frames; number 0 has no skeletons."""
    lines = []
    for number in range(12):
        shape = (24, 12) if number % 2 else (12, 24)
        folders = {"frames_dir": f"{number}/frames"}
        meta: dict[str, Any] = {"caption": "c" * number, "frame_times": [0.0, 1.0, 2.0, 3.0]}
        meta |= {"width": shape[0], "height": shape[1], "duration": 4.0}
        if number:
            folders["pose_dir"] = meta["pose_dir"] = f"{number}/pose"
        if number == 3:
            folders |= {"mask_dir": f"{number}/mask", "scene_dir": f"{number}/scene"}
            meta |= {"mask_dir": f"{number}/mask", "scene_dir": f"{number}/scene"}
        for place, (key, name) in enumerate(folders.items()):
            (tmp_path / name).mkdir(parents=True)
            for frame in range(1, 5):
                image = Image.new("RGB", shape, (place * 60, frame * 50, 0))
                image.paste((255,) * 3, (0, 0, 2, 2))
                suffix = "jpg" if key == "frames_dir" else "png"
                image.save(tmp_path / name / f"frame_{frame:06d}.{suffix}", quality=95)
        line = {"id": f"{number:064x}", "frames_dir": f"{number}/frames", "meta": meta}
        lines.append(json.dumps(line) + "\n")
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(lines))
    return path


def read(
    manifest: Path, needs: Needs = Needs(), part: Any = "train", **clip: Any
) -> VideoFrameDataset:
    split = {"validation": 0.0 if part == "train" else 0.99}
    keys = {"num_frames": 2, "fps": 1, "sizes": [[16, 8], [8, 16]]} | clip
    return dataset.read(manifest, manifest.parent, Run(split=split, clip=keys), False, needs)[part]


def test_frames_come_in_the_size_of_their_bucket(manifest: Path) -> None:
    samples = read(manifest, Needs(text=False))
    assert [samples[i].size for i in range(4)] == [(8, 16), (16, 8)] * 2
    assert all({image.size for image in samples[i].images} == {samples[i].size} for i in range(12))
    lengths = samples.lengths()
    assert lengths[1::2].max() < lengths[::2].min()
    assert read(manifest).left_out == [(f"{0:064x}", "without caption")]


def test_videos_of_one_length_come_together(manifest: Path) -> None:
    """Half of them lose their last two frames, and have clips of two frames instead of three."""
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines[::2]:
        line["meta"]["frame_times"] = line["meta"]["frame_times"][:2]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    samples = read(manifest, Needs(text=False), num_frames=[2, 3], sizes=[[8, 8]])
    assert [len(samples[i].images) for i in range(12)] == [2, 3] * 6
    lengths = samples.lengths()
    assert lengths[1::2].max() < lengths[::2].min()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes at which JPEGs are decoded, in turn."""
    sizes: list[tuple[int, int]] = []
    load = JpegImageFile.load

    def noted(self: JpegImageFile) -> Any:
        if self.tile:
            sizes.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImageFile, "load", noted)
    return sizes


@pytest.mark.parametrize(
    ("clip", "shown", "least"),
    [
        ({"sizes": [], "max_side_px": 160}, (160, 90), (161, 91)),
        ({"sizes": [], "max_side_px": 150}, (150, 84), (161, 91)),
        ({"sizes": [], "max_side_px": 200}, (200, 113), (321, 181)),
        ({"sizes": [], "max_side_px": 640}, (640, 360), (641, 361)),
        ({"sizes": [[160, 80]]}, (160, 80), (161, 91)),
        ({"sizes": [[160, 160]]}, (160, 160), (321, 181)),
    ],
    ids=str,
)
def test_scaled_decoding_makes_nearly_the_same_of_fewer_pixels(
    clip: dict[str, Any],
    shown: tuple[int, int],
    least: tuple[int, int],
    manifest: Path,
    decoded: list[tuple[int, int]],
) -> None:
    """Of frames of 641 × 361 pixels."""
    noise = np.random.default_rng(0).integers(0, 255, (9, 16, 3), dtype=np.uint8)
    for path in (manifest.parent / "1/frames").iterdir():
        Image.fromarray(noise).resize((641, 361)).save(path, quality=95)
    needs = Needs(False, ("pose",))
    full, scaled = (read(manifest, needs, jpeg_decoding=how, **clip)[0] for how in FULL_AND_SCALED)
    assert decoded == [(641, 361)] * 2 + [least] * 2
    assert {image.size for image in (*full.images, *scaled.images)} == {shown}
    assert {(image.mode, type(image)) for image in full.images} == {("RGB", Image.Image)}
    pixels = [np.asarray(sample.images[0], dtype=float) for sample in (full, scaled)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 2


def test_scaled_decoding_is_of_other_runs_and_clips(manifest: Path) -> None:
    """The names of those without it are as they were before there was any."""
    clips = [{"max_side_px": 16, "jpeg_decoding": how} for how in FULL_AND_SCALED]
    plain, full, scaled = (Run(clip=clip).results() for clip in ({"max_side_px": 16}, *clips))
    assert plain == full != scaled
    assert "jpeg_decoding" not in full["clip"]
    samples = [
        read(manifest, Needs(False, ("pose",)), jpeg_decoding=how) for how in FULL_AND_SCALED
    ]
    store = EncodedFiles(manifest.parent, {"frames": "1"}, "")
    names = [store.clip(one, one.plan(0)).stem for one in samples]
    assert names[0].startswith("4b6398854796560e")
    assert names[1] != names[0]


def test_what_lies_beside_the_frames_is_read_at_the_same_times(manifest: Path) -> None:
    needs = Needs(False, ("reference", "pose"), ("scene", "mask"))
    samples = read(manifest, needs)
    assert samples.left_out == [(f"{0:064x}", "without pose: pose.enabled makes it")]
    one = samples[0]
    assert one.conditions.keys() == {"reference", "pose"}
    assert one.times == (1.0, 2.0)
    greens = [np.asarray(image)[-1, -1, 1] for image in one.conditions["pose"]]
    assert greens == [100, 150]
    assert round(float(np.asarray(one.conditions["reference"][0])[-1, -1, 1]) / 50) == 1
    (manifest.parent / "1/pose/frame_000002.png").unlink()
    with pytest.raises(Unusable, match=r"1/pose/frame_000002"):
        samples[0]
    both = read(manifest, needs, replace=True)
    assert both.num_videos == 1
    assert both[0].conditions.keys() == {"reference", "pose", "scene", "mask"}


def test_what_is_held_out_is_the_same_in_every_run_and_epoch(manifest: Path) -> None:
    def drawn(part: str, seed: int, epoch: int) -> list[Any]:
        run = Run(
            seed=seed,
            split={"validation": 0.5},
            clip={"num_frames": 2, "fps": 1, "sampling": "random", "flip": True},
        )
        samples = dataset.read(manifest, manifest.parent, run, False, Needs(text=False))[part]  # type: ignore[index]
        found = [samples[epoch * len(samples) + i] for i in range(len(samples))]
        return [(one.seed, one.times, one.images[0].tobytes()) for one in found]

    assert drawn("validation", 0, 0) == drawn("validation", 7, 3)
    assert drawn("train", 0, 0) == drawn("train", 0, 0)
    assert not {seed for seed, *_ in drawn("train", 0, 0)} & {s for s, *_ in drawn("train", 0, 1)}
    assert not {seed for seed, *_ in drawn("train", 0, 0)} & {s for s, *_ in drawn("train", 1, 0)}


def test_half_of_the_clips_are_mirrored_with_all_beside_them(manifest: Path) -> None:
    samples = read(manifest, Needs(False, ("pose",)), flip=True)
    corners = []
    for number in range(60):
        sample = samples[number]
        sides = [np.asarray(i.convert("L"))[0, -1] > 200 for i in sample.conditions["pose"]]
        assert len(set(sides)) == 1
        corners.append(sides[0])
    assert 18 < sum(corners) < 42


def moving(path: Path, frames: int, offset: int) -> None:
    """A video of 16 frames a second whose frame k is as bright as `offset` + 5 · k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Writer(path, 16.0, (32, 32), "exact") as writer:
        for number in range(frames):
            writer.add(Image.new("RGB", (32, 32), (offset + 5 * number,) * 3))


def posed(root: Path, **pose: Any) -> tuple[dict[str, Any], VideoFrameDataset]:
    """A video of two seconds with what the `pose` step leaves, and its only sample."""
    name = "ab" * 32
    moving(root / "source.mp4", 32, 0)
    layout = Layout(root)
    layout.source(name).parent.mkdir(parents=True)
    layout.source(name).symlink_to(root / "source.mp4")
    for number, file in enumerate(("pose", "face", "mask", "background"), start=1):
        moving(root / "pose" / f"{file}.mp4", 32, 10 * number)
    meta = {"caption": "a", "duration": 2.0, "fps": 16.0, "frame_times": [0.0, 1.0]}
    meta["pose"] = {"dir": "pose", "fps": 16.0, "frames": 32, "person_lost": []} | pose
    entry = {"id": name, "frames_dir": "frames", "audio": None, "meta": meta}
    (root / "manifest.jsonl").write_text(json.dumps(entry) + "\n", encoding="utf-8")
    chosen = {"num_frames": 5, "fps": 8.0, "source": "video", "sampling": "random", "replace": True}
    needs = Needs(conditions=("pose", "face"), optional_conditions=("background", "mask"))
    samples = VideoFrameDataset(root / "manifest.jsonl", root, Run(clip=chosen), False, needs)
    samples.add(entry, 0)
    return entry, samples


def test_what_the_pose_step_left_is_of_the_same_moments(tmp_path: Path) -> None:
    _, samples = posed(tmp_path)
    seen = set()
    for epoch in range(6):
        sample = samples[epoch]
        bright = [round(float(np.asarray(image).mean())) for image in sample.images]
        seen.add(bright[0])
        assert np.diff(bright).tolist() == [10] * 4  # every second frame
        for number, name in enumerate(("pose", "face", "mask", "background"), start=1):
            beside = [round(float(np.asarray(image).mean())) for image in sample.conditions[name]]
            assert beside == [value + 10 * number for value in bright], name
    assert len(seen) > 1


def test_a_clip_without_its_person_cannot_be_used(tmp_path: Path) -> None:
    _, samples = posed(tmp_path, person_lost=[[0, 31]])
    with pytest.raises(Unusable, match="no person in the frames 0 to 31 of its pose"):
        samples[0]


def test_a_video_without_a_pose_says_why(tmp_path: Path) -> None:
    entry, samples = posed(tmp_path)
    del entry["meta"]["pose"]
    samples.add(entry | {"meta": entry["meta"] | {"no_pose": "no person found"}}, 0)
    assert samples.left_out == [(entry["id"], "without pose: no person found")]
