"""What is prepared of a person: files that fit each other, and honest words where nobody is."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spark_trainer import config, steps
from spark_trainer.config import Pose
from spark_trainer.config.pose import VITPOSE_KEYS
from spark_trainer.detectors import POINTS, Person, mediapipe, outline
from spark_trainer.detectors.skeleton import draw
from spark_trainer.steps import manifest, person, pose
from tests import ffmpeg
from tests.media import images_at, images_on_grid

from .conftest import CLIPS, Built, run_steps

SPEAKER = Path(__file__).parents[1] / "assets/speaker.mp4"
FRAMES = 28
BLACK = "color=black:s=252x252:r=30000/1001"


def beginning(stream: Any) -> Any:
    """Its first 16 frames, of 30 a second."""
    return stream.video.filter("trim", end_frame=16).filter("setpts", "PTS-STARTPTS")


def write_lost(path: Path, back: bool) -> None:
    """Show the speaker, then as much black, then, where it is wanted, the speaker again."""
    speaker, black = beginning(ffmpeg.read(SPEAKER)).split(), beginning(ffmpeg.drawn(BLACK))
    parts = [speaker[0], black, speaker[1]] if back else [beginning(ffmpeg.read(SPEAKER)), black]
    ffmpeg.write(ffmpeg.joined(*parts).output(str(path)))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("people")
    shutil.copy(SPEAKER, folder)
    shutil.copy(CLIPS / "dog.mp4", folder)
    shutil.copy(CLIPS / "hello.mpeg", folder)
    write_lost(folder / "half.mp4", back=False)
    write_lost(folder / "lost.mp4", back=True)
    cup = ffmpeg.read(CLIPS / "cup.mp4")
    ffmpeg.write(cup.audio.output(str(folder / "sound.mp4"), c="copy"))
    (folder / "broken.mp4").write_bytes(b"\0" * 5000)
    return build(folder, tmp_path_factory.mktemp("out"))


def build(folder: Path, output: Path) -> Built:
    settings = {"enabled": True, "max_seconds": FRAMES / 16}
    return run_steps(folder, output, ("pose",), {"pose": settings})


def folder_of(built: Built, name: str) -> Path:
    return pose.folder(built.index.layout, built.video(name))


def read(built: Built, name: str, part: str) -> list[Image.Image]:
    """Every frame of a prepared video, at the times that stand beside it."""
    times = np.load(folder_of(built, name) / "keypoints.npz")["times"]
    return list(images_at(folder_of(built, name) / f"{part}.mp4", times.tolist()))


def test_every_part_has_the_frames_of_the_video(built: Built) -> None:
    record = built.record("speaker.mp4", "pose")
    assert record["status"] == "ok"
    assert (record["frames"], record["fps"], record["people"]) == (FRAMES, 16.0, 1)
    assert (record["width"], record["height"]) == (252, 252)
    for part in ("pose", "face", "mask", "background"):
        path = folder_of(built, "speaker.mp4") / f"{part}.mp4"
        frames = list(images_on_grid(path, 16.0))
        assert len(frames) == FRAMES
        assert frames[0].size == ((512, 512) if part == "face" else (252, 252))
        for one, other in zip(frames, read(built, "speaker.mp4", part), strict=True):
            assert one.tobytes() == other.tobytes()


def test_skeletons_come_back_as_they_were_drawn(built: Built) -> None:
    arrays = np.load(folder_of(built, "lost.mp4") / "keypoints.npz")
    drawn = 0
    for number, image in enumerate(read(built, "lost.mp4", "pose")):
        parts = {name: arrays[name][number] for name in POINTS}
        person = Person(**parts, mask=np.zeros((1, 1), np.float32))
        assert image.tobytes() == draw(person, image.size, 0.5).tobytes()
        drawn += image.getbbox() is not None
    lost = built.record("lost.mp4", "pose")["person_lost"]
    assert drawn == len(arrays["times"]) - sum(last - first + 1 for first, last in lost)


def test_mask_and_background_share_the_video(built: Built) -> None:
    source = images_at(SPEAKER, [k / 16 for k in range(FRAMES)])
    masks, rest = (read(built, "speaker.mp4", part) for part in ("mask", "background"))
    for image, mask, background in zip(source, masks, rest, strict=True):
        white = np.asarray(mask)[..., 0] == 255
        assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert 0.2 < white.mean() < 0.8
        inner = ~outline.grown(~white, 4)
        assert np.asarray(background)[inner].mean() < 2
        outside = ~outline.grown(white, 4)
        difference = np.asarray(background, float)[outside] - np.asarray(image, float)[outside]
        assert np.abs(difference).mean() < 3


def test_a_person_who_goes_and_comes_back(built: Built) -> None:
    """30 frames a second: black from 16 / 29.97 s, frame 9 of the grid, to twice that, frame 17."""
    record = built.record("lost.mp4", "pose")
    assert (record["status"], record["frames"]) == ("ok", 26)
    assert record["lost_face"] == "black"
    [[first, last], *_] = record["person_lost"]
    assert (first, last) == (9, pytest.approx(17, abs=2))
    lost = {k for a, b in record["face_lost"] for k in range(a, b + 1)}
    assert set(range(9, 18)) <= lost < set(range(26))
    boxes = np.load(folder_of(built, "lost.mp4") / "keypoints.npz")["face_box"]
    for number, image in enumerate(read(built, "lost.mp4", "face")):
        assert np.isnan(boxes[number]).all() == (number in lost)
        assert (np.asarray(image).mean() < 1) == (number in lost)


def test_a_face_is_cropped_around_its_keypoints(built: Built) -> None:
    arrays = np.load(folder_of(built, "speaker.mp4") / "keypoints.npz")
    for points, box in zip(arrays["face"], arrays["face_box"], strict=True):
        if points[:, 2].any() and not np.isnan(box[0]):
            middle = points[:, :2].mean(axis=0)
            assert (box[:2] < middle).all()
            assert (middle < box[2:]).all()
            assert (np.ptp(points[:, :2], axis=0) < 1.25 * (box[2:] - box[:2])).all()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("dog.mp4", "no person found"),
        ("hello.mpeg", "no person of 96 px or more found"),
        ("half.mp4", "a person in 9 of 18 frames only (pose.min_share)"),
        ("sound.mp4", "no video stream"),
        ("broken.mp4", "not readable as media"),
    ],
)
def test_why_there_is_nobody(name: str, why: str, built: Built) -> None:
    record = built.record(name, "pose")
    assert record["status"] == "none"
    assert why in record["why"]
    assert "reason" not in record
    assert not folder_of(built, name).exists()
    assert not folder_of(built, name).with_name(".pose.tmp").exists()


def test_the_same_bytes_when_made_twice(built: Built, videos: Path, tmp_path: Path) -> None:
    shutil.copy(SPEAKER, videos)
    again = folder_of(build(videos, tmp_path / "out"), "speaker.mp4")
    assert {path.name for path in again.iterdir()} == {*pose.VIDEOS, pose.KEYPOINTS}
    for path in again.iterdir():
        assert path.read_bytes() == (folder_of(built, "speaker.mp4") / path.name).read_bytes()


def test_where_it_comes_from(built: Built) -> None:
    record = built.record("speaker.mp4", "pose")
    assert record["detector"] == "mediapipe"
    assert record["packages"]["mediapipe"] == "0.10.21"
    assert all(record["models"].values())
    assert record["settings"]["frame_rate"] == 16
    assert record["seconds"] > 0


def test_nothing_is_asked_of_the_detector_while_it_is_off(tmp_path: Path) -> None:
    off, on = (config.load({"pose": {"enabled": state}}) for state in (False, True))
    assert "pose" not in steps.enabled(off)
    assert steps.load("pose").identity(off.pose, tmp_path) is None
    assert manifest.fingerprints(off)["manifest"] != manifest.fingerprints(on)["manifest"]


def test_without_mediapipe_the_configuration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediapipe, "PACKAGES", ("no-such-package",))
    on = config.load({"pose": {"enabled": True}})
    with pytest.raises(config.ConfigError, match=r"pose\.enabled: mediapipe is not installed"):
        steps.fingerprints(on)


def test_what_only_another_detector_reads_decides_nothing() -> None:
    made, other = (
        steps.fingerprint(config.load({"pose": {"enabled": True} | keys}), "pose")
        for keys in ({}, {"keypoint_model": "someone/joints", "person_threshold": 0.9})
    )
    assert made == other
    assert not VITPOSE_KEYS & Pose().results().keys()


def test_device_and_share_decide_nothing() -> None:
    keys = {"detector": "vitpose", "device": "auto", "gpu_fraction": 0.5}
    assert Pose(**keys).results() == Pose(detector="vitpose").results()
    assert Pose(detector="vitpose").results().keys() > VITPOSE_KEYS


def test_only_a_detector_that_needs_a_gpu_asks_for_one() -> None:
    wanted = steps.load("pose").wanted
    assert wanted(Pose()) == "cpu"
    assert wanted(Pose(detector="vitpose")) == "cuda"
    on = config.load({"pose": {"enabled": True, "detector": "vitpose"}})
    assert steps.gpus(on, "pose", local=False) == 1
    assert steps.gpus(config.load({"pose": {"enabled": True}}), "pose", local=False) == 0


def test_without_scipy_checkpoints_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    on = config.load({"pose": {"enabled": True, "detector": "vitpose"}})
    with pytest.raises(config.ConfigError, match=r"pose\.detector: vitpose needs scipy"):
        steps.fingerprints(on)


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((1920, 1080), 1280, (1280, 720)),
        ((321, 241), None, (320, 240)),
        ((321, 243), 9999, (320, 244)),
        ((4000, 3), 1280, (1280, 2)),
    ],
)
def test_sides_are_even(
    size: tuple[int, int], limit: int | None, expected: tuple[int, int]
) -> None:
    assert person.even_size(size, limit) == expected
