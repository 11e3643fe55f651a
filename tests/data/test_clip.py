"""Clips at a rate, in buckets of size, with other videos beside them."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spark_trainer.config import Clip, Run
from spark_trainer.data import clip, dataset, video
from spark_trainer.data.clip import Unusable
from spark_trainer.data.dataset import Needs, Samples

TIMES = tuple(i / 8 for i in range(40))  # five seconds, eight frames a second


def moments(meta: dict[str, Any], draw: random.Random | None = None, **keys: Any) -> list[float]:
    return list(clip.moments(meta, Clip(**keys), draw))


def test_frames_at_a_rate_lie_evenly_in_the_middle() -> None:
    meta = {"frame_times": TIMES, "duration": 5.0, "fps": 24.0}
    assert moments(meta, num_frames=5, fps=2) == [1.375 + i / 2 for i in range(5)]
    assert moments(meta, num_frames=4, stride=4) == [1.625 + i / 2 for i in range(4)]
    assert moments(meta, num_frames=40, fps=8) == list(TIMES)
    decoded = moments(meta, num_frames=5, fps=6, source="video")
    assert np.diff(decoded) == pytest.approx([1 / 6] * 4)
    strided = moments(meta, num_frames=120, stride=1, source="video")
    assert strided == pytest.approx([(i + 0.5) / 24 for i in range(120)])


def test_chance_moves_the_whole_clip() -> None:
    meta = {"frame_times": TIMES, "duration": 5.0, "fps": 24.0}
    for keys in ({"fps": 4}, {"stride": 2}, {"fps": 12, "source": "video"}):
        seen = [moments(meta, random.Random(i), num_frames=6, **keys) for i in range(60)]
        begins = {found[0] for found in seen}
        assert len(begins) > 15
        assert all(np.ptp(np.diff(found)) < 1e-9 for found in seen)
        assert min(begins) < 0.5
        assert max(found[-1] for found in seen) > 4.5
        assert max(found[-1] for found in seen) < 5


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"num_frames": 41, "fps": 8}, "4.88 s of frames; the clip .* takes 5.00 s"),
        ({"num_frames": 15, "stride": 3}, "40 frames; clip.num_frames and clip.stride take 43"),
        ({"num_frames": 8, "fps": 16}, "too far apart for clip.fps = 16; raise frames.frame_rate"),
        ({"num_frames": 130, "fps": 24, "source": "video"}, "5.00 s of frames; .* 5.38 s"),
        ({"num_frames": 8, "fps": 30, "source": "video"}, "24 frames a second, fewer than"),
    ],
    ids=str,
)
def test_a_video_that_is_too_short_says_so(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        moments({"frame_times": TIMES, "duration": 5.0, "fps": 24.0}, **keys)
    with pytest.raises(Unusable, match="without duration and fps"):
        moments({"frame_times": TIMES}, num_frames=2, fps=1, source="video")


def test_the_most_similar_shape_is_chosen() -> None:
    sizes = [(64, 64), (96, 48), (48, 96)]
    for shape, chosen in (((500, 480), 0), ((1920, 1080), 1), ((720, 1280), 2), ((1020, 730), 0)):
        assert clip.size({"width": shape[0], "height": shape[1]}, sizes) == chosen
    assert clip.size({}, sizes[:1]) == 0
    with pytest.raises(Unusable, match="without width and height"):
        clip.size({}, sizes)


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


def read(manifest: Path, needs: Needs = Needs(), part: Any = "train", **clip: Any) -> Samples:  # noqa: B008
    split = {"validation": 0.0 if part == "train" else 0.99}
    keys = {"num_frames": 2, "fps": 1, "sizes": [[16, 8], [8, 16]]} | clip
    return dataset.read(manifest, manifest.parent, Run(split=split, clip=keys), False, needs)[part]


def test_frames_come_in_the_size_of_their_bucket(manifest: Path) -> None:
    samples = read(manifest, Needs(text=False))
    assert [samples[i].size for i in range(4)] == [(8, 16), (16, 8)] * 2
    assert all({image.size for image in samples[i].images} == {samples[i].size} for i in range(12))
    lengths = samples.lengths()
    assert lengths[1::2].max() < lengths[::2].min()
    assert read(manifest).left_out == [f"{0:064x}: without caption"]


def test_what_lies_beside_the_frames_is_read_at_the_same_times(manifest: Path) -> None:
    needs = Needs(False, ("reference", "pose"), ("scene", "mask"))
    samples = read(manifest, needs)
    assert samples.left_out == [f"{0:064x}: without pose: pose.enabled makes it"]
    one = samples[0]
    assert one.beside.keys() == {"reference", "pose"}
    assert one.times == (1.0, 2.0)
    greens = [np.asarray(image)[-1, -1, 1] for image in one.beside["pose"]]
    assert greens == [100, 150]
    assert round(float(np.asarray(one.beside["reference"][0])[-1, -1, 1]) / 50) == 1
    (manifest.parent / "1/pose/frame_000002.png").unlink()
    with pytest.raises(Unusable, match=r"1/pose/frame_000002"):
        samples[0]
    both = read(manifest, needs, replace=True)
    assert both.num_videos == 1
    assert both[0].beside.keys() == {"reference", "pose", "scene", "mask"}


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
        sides = [np.asarray(i.convert("L"))[0, -1] > 200 for i in sample.beside["pose"]]
        assert len(set(sides)) == 1
        corners.append(sides[0])
    assert 18 < sum(corners) < 42


def test_a_written_video_has_its_frames_and_rate(tmp_path: Path) -> None:
    images = [Image.new("RGB", (32, 16), (level, 0, 0)) for level in (10, 90, 170, 250)]
    video.write(tmp_path / "a.mp4", images, 7.5)
    times = [i / 7.5 for i in range(4)]
    shown = list(video.frames_at(tmp_path / "a.mp4", times))
    assert [
        abs(int(np.asarray(i)[8, 8, 0]) - v) < 20
        for i, v in zip(shown, (10, 90, 170, 250), strict=True)
    ]
    import av

    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 4
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(7.5)
