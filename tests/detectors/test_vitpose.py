"""The checkpoints are run as upstream runs them, and one person is followed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from spark_trainer.config import ConfigError, Pose
from spark_trainer.detectors import Detector, mediapipe, vitpose
from spark_trainer.system.memory import OutOfMemory
from tests.media import images_on_grid

from . import tiny
from .tiny import boxes

SPEAKER = Path(__file__).parents[1] / "assets/speaker.mp4"
BOX = np.array([60, 90, 170, 240], np.float32)

Settings = Callable[..., Pose]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The section with tiny checkpoints; keys given take the place of theirs."""
    folder = tmp_path_factory.mktemp("tiny")
    shared = {
        "enabled": True,
        "detector": "vitpose",
        "device": "cpu",
        "person_model": str(tiny.people(folder / "people")),
        "keypoint_model": str(tiny.keypoints(folder / "keypoints", 133)),
        "mask_model": str(tiny.masks(folder / "masks")),
    }
    return lambda **keys: Pose(**(shared | keys))


@pytest.fixture(scope="module")
def detector(settings: Settings) -> vitpose.VitPose:
    return load(settings())


def load(settings: Pose) -> vitpose.VitPose:
    loaded = vitpose.load(settings, "cpu", 1)
    assert isinstance(loaded, vitpose.VitPose)
    return loaded


def picture() -> np.ndarray:
    [image] = images_on_grid(SPEAKER, 16.0, 1)
    return np.array(image)


@pytest.mark.parametrize(
    ("count", "experts", "expert"), [(17, 1, None), (133, 1, None), (17, 6, 0), (133, 6, 5)]
)
def test_keypoints_are_upstreams(
    count: int, experts: int, expert: int | None, settings: Settings, tmp_path: Path
) -> None:
    """Of ViTPose++'s experts 0 was trained on COCO and 5 on COCO-WholeBody."""
    folder = tiny.keypoints(tmp_path, count, experts)
    found = load(settings(keypoint_model=str(folder))).keypoints(picture(), BOX)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.VitPoseForPoseEstimation.from_pretrained(folder).eval()
    boxes = [[[60.0, 90.0, 110.0, 150.0]]]  # left, top, width, height
    inputs = dict(processor(picture(), boxes=boxes, return_tensors="pt"))
    if expert is not None:
        inputs["dataset_index"] = torch.tensor([expert])
    with torch.no_grad():
        outputs = model(**inputs)
    [[expected]] = processor.post_process_pose_estimation(outputs, boxes=boxes)
    shares = expected["keypoints"].numpy() / 252
    np.testing.assert_allclose(found[:, :2], shares, rtol=1e-6)
    inside = ((shares >= 0) & (shares < 1)).all(axis=1)
    scores = expected["scores"].clip(0, 1).numpy()
    assert found[:, 2] == pytest.approx(np.where(inside, scores, 0))
    assert len(np.unique(found[:, :2], axis=0)) > 5


def test_the_outline_is_upstreams(detector: vitpose.VitPose, settings: Settings) -> None:
    folder = settings().mask_model
    processor = transformers.Sam2Processor.from_pretrained(folder)
    model = transformers.Sam2Model.from_pretrained(folder).eval()
    inputs = processor(
        images=picture(), input_boxes=[[[60.0, 90.0, 170.0, 240.0]]], return_tensors="pt"
    )
    with torch.no_grad():
        outputs = model(**inputs, multimask_output=False)
    [masks] = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])
    found = detector.mask(picture(), BOX)
    assert found.shape == (252, 252)
    assert (found > 0.5).tolist() == masks[0, 0].tolist()
    assert 0.01 < masks.float().mean() < 0.99


def test_people_are_upstreams(detector: vitpose.VitPose, settings: Settings) -> None:
    folder = settings().person_model
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    with torch.no_grad():
        outputs = model(**processor(images=picture(), return_tensors="pt"))
    [expected] = processor.post_process_object_detection(
        outputs, threshold=0.5, target_sizes=[(252, 252)]
    )
    order = expected["scores"].argsort(descending=True)
    found = detector.people(picture())
    np.testing.assert_allclose(found, expected["boxes"][order].clip(0, 252).numpy(), rtol=1e-5)
    assert detector.count(picture()) == len(found) == 6


@pytest.mark.parametrize(
    ("sure", "labels", "threshold", "count"),
    [
        (tiny.SURE, {0: "Person", 1: "cup"}, 0.5, 6),
        (tiny.SURE, {0: "cup", 1: "person"}, 0.5, 0),
        (0.0, tiny.LABELS, 0.7, 0),
    ],
)
def test_only_people_who_are_sure_enough_count(
    sure: float,
    labels: dict[int, str],
    threshold: float,
    count: int,
    settings: Settings,
    tmp_path: Path,
) -> None:
    folder = str(tiny.people(tmp_path, sure, labels))
    found = load(settings(person_model=folder, person_threshold=threshold))
    assert found.count(picture()) == count
    with found.following(16.0) as find:
        assert (find(picture()) is None) == (count == 0)


def test_a_lost_person_is_found_again_as_the_surest(
    detector: vitpose.VitPose, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter([boxes(0, 140), boxes(150, 10), boxes(150), boxes(), boxes(140, 0), boxes(0, 130)])
    monkeypatch.setattr(detector, "people", lambda picture: next(seen))
    with detector.following(16.0) as find:
        found = [find(picture()) for _ in range(6)]
    lefts = [0, 10, None, None, 140, 130]
    for person, left in zip(found, lefts, strict=True):
        assert (person is None) == (left is None)
        if person is not None:
            expected = detector.keypoints(picture(), boxes(left)[0])
            assert (person.body[0] == expected[0]).all()


@pytest.fixture(scope="module")
def coco(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> vitpose.VitPose:
    folder = tmp_path_factory.mktemp("coco")
    people, joints = tiny.people(folder / "p", size=4.0), tiny.keypoints(folder / "k", 17)
    return load(settings(person_model=str(people), keypoint_model=str(joints)))


def test_hands_and_face_are_mediapipes_where_joints_are_cocos(
    coco: vitpose.VitPose, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mediapipe.load(Pose(), "cpu", 1).following(16.0) as find:
        expected = find(picture())
    assert expected is not None
    assert expected.has_face
    with coco.following(16.0) as find:
        person = find(picture())
    assert person is not None
    assert (person.face == expected.face).all()
    assert (person.left_hand == expected.left_hand).all()
    assert not person.body[18:].any()
    assert not (person.body[:18, :2] == expected.body[:18, :2]).any()
    corner = np.array([[0, 0, 60, 60]], np.float32)
    monkeypatch.setattr(coco, "people", lambda picture: corner)
    with coco.following(16.0) as find:
        person = find(picture())
    assert person is not None
    assert not person.has_face, "it is another person's"


def test_a_face_whose_points_are_unsure_is_none(settings: Settings) -> None:
    sure, unsure = (load(settings(min_confidence=value)) for value in (0.01, 0.99))
    for found, there in ((sure, True), (unsure, False)):
        with found.following(16.0) as find:
            person = find(picture())
        assert person is not None
        assert person.has_face == there


def test_other_numbers_of_keypoints_are_refused(settings: Settings, tmp_path: Path) -> None:
    chosen = settings(keypoint_model=str(tiny.keypoints(tmp_path / "25", 25)))
    words = r"pose\.keypoint_model: .* has 25 labels; expected COCO's 17 .* or .* 133"
    with pytest.raises(ConfigError, match=words):
        vitpose.identity(chosen, tmp_path / "models.json")
    with pytest.raises(ConfigError, match=words):
        vitpose.load(chosen, "cpu", 1)


def test_checkpoints_that_cannot_serve_are_refused(settings: Settings, tmp_path: Path) -> None:
    cups = tiny.people(tmp_path / "cups", labels={0: "cup", 1: "dog"})
    with pytest.raises(ConfigError, match=r"pose\.person_model: .* no label 'person'; .* cup, dog"):
        vitpose.load(settings(person_model=str(cups)), "cpu", 1)
    chosen = settings(mask_model=settings().keypoint_model)
    with pytest.raises(ConfigError, match=r"pose\.mask_model: .* 'vitpose' checkpoint; expected"):
        vitpose.identity(chosen, tmp_path / "models.json")
    (cups / "model.safetensors").unlink()
    torch.save({}, cups / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pose\.person_model: .* lacks model\.safetensors"):
        vitpose.identity(settings(person_model=str(cups)), tmp_path / "models.json")
    with pytest.raises(ConfigError, match=r"pose\.person_model: .* can't be loaded"):
        vitpose.load(settings(person_model=str(cups)), "cpu", 1)


def test_identities_follow_the_weights(settings: Settings, tmp_path: Path) -> None:
    cache, folder = tmp_path / "models.json", tmp_path / "copy"
    before = vitpose.identity(settings(), cache)["models"]
    shutil.copytree(settings().keypoint_model, folder)
    assert vitpose.identity(settings(keypoint_model=str(folder)), cache)["models"] == before
    tiny.keypoints(folder, 17)
    after = vitpose.identity(settings(keypoint_model=str(folder)), cache)["models"]
    assert after.pop("mediapipe") == mediapipe.identity(Pose(), cache)
    assert {key for key in before if before[key] != after[key]} == {"keypoint_model"}


def test_a_hub_id_stands_for_itself_at_its_commit(settings: Settings, tmp_path: Path) -> None:
    chosen = settings(person_model="someone/people", mask_model="someone/masks@0123abc")
    found = vitpose.identity(chosen, tmp_path / "models.json")["models"]
    assert found["person_model"] == "someone/people@main"
    assert found["mask_model"] == "someone/masks@0123abc"


def test_without_a_network_the_key_and_the_model_are_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = r"pose\.keypoint_model: someone/joints can't be loaded: "
    with pytest.raises(ConfigError, match=words):
        vitpose.load(settings(keypoint_model="someone/joints"), "cpu", 1)


def test_a_full_memory_is_no_videos_fault(
    detector: vitpose.VitPose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(detector._masks, "forward", full)
    words = r"pose: one picture does not fit .*pose\.mask_model.*20 GiB"
    with detector.following(16.0) as find, pytest.raises(OutOfMemory, match=words):
        find(picture())


def test_what_a_record_tells(detector: Detector) -> None:
    assert detector.facts == {"device": "cpu", "keypoints": 133}
