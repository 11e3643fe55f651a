"""MediaPipe finds a real person where the eye does, and nobody where nobody is."""

import base64
import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from spark_trainer import detectors
from spark_trainer.config import Pose
from spark_trainer.detectors import BODY, Detector, Person, mediapipe
from tests.media import images_on_grid

SPEAKER = Path(__file__).parents[1] / "assets/speaker.mp4"


def pictures(path: Path, count: int) -> list[np.ndarray]:
    return [np.asarray(image) for image in images_on_grid(path, 16.0, count)]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return detectors.backend("mediapipe").load(Pose(), "cpu", 1)


@pytest.fixture(scope="module")
def people(detector: Detector) -> list[Person | None]:
    """The speaker, from the first frame on."""
    with detector.following(16.0) as find:
        return [find(picture) for picture in pictures(SPEAKER, 12)]


def test_the_person_is_where_the_eye_sees_it(people: list[Person | None]) -> None:
    """By eye: the head between 0.3 and 0.65 of the width, the shoulders at 0.9 of the height."""
    for person in people:
        assert person is not None
        joints = dict(zip(BODY, person.body, strict=True))
        left, right = joints["left shoulder"], joints["right shoulder"]
        assert right[0] < 0.3 < 0.6 < left[0], "the person's own left is on our right"
        assert 0.85 < left[1] < 1
        assert joints["neck"][:2] == pytest.approx((left[:2] + right[:2]) / 2, abs=1e-6)
        assert 0.3 < joints["nose"][0] < 0.6
        assert 0.4 < joints["nose"][1] < 0.65
        assert joints["left knee"][2] == 0, "guessed below the edge of the picture"
        assert person.mask.shape == (252, 252)
        assert person.mask[140, 110] > 0.9, "the chin"
        assert person.mask[10, 10] < 0.1, "the ceiling"


FACE_PARTS = {  # of the 68 points
    "nose": slice(27, 36),
    "right brow": slice(17, 22),
    "left brow": slice(22, 27),
    "right eye": slice(36, 42),
    "left eye": slice(42, 48),
    "lips": slice(48, 68),
}


def test_the_parts_of_the_face_lie_as_in_a_face(people: list[Person | None]) -> None:
    found = [person for person in people if person is not None and person.has_face]
    assert len(found) >= 10
    for person in found:
        at = {name: person.face[part, :2].mean(axis=0) for name, part in FACE_PARTS.items()}
        assert at["right eye"][0] < at["nose"][0] < at["left eye"][0]
        brows = (at["right brow"][1] + at["left brow"][1]) / 2
        eyes = (at["right eye"][1] + at["left eye"][1]) / 2
        assert brows < eyes < at["nose"][1] < at["lips"][1] < person.face[8, 1], "8 is the chin"
        assert person.face[0, 0] < at["nose"][0] < person.face[16, 0], "the ends of the jaw"


def test_joints_are_those_of_their_names() -> None:
    from mediapipe.python.solutions.pose import PoseLandmark

    names = [PoseLandmark(joint).name.lower().replace("_", " ") for joint in mediapipe.JOINTS]
    names.insert(1, "neck")
    assert [name.replace("foot index", "toe") for name in names] == list(BODY)
    assert [PoseLandmark(joint).name for joint in mediapipe.NECK] == [
        "LEFT_SHOULDER",
        "RIGHT_SHOULDER",
    ]


@pytest.mark.parametrize("name", ["dog.mp4", "title.mp4"])
def test_nobody_is_found_where_nobody_is(name: str, clips: Path, detector: Detector) -> None:
    frames = pictures(clips / name, 6)
    with detector.following(16.0) as find:
        assert [find(picture) for picture in frames] == [None] * 6
    assert detector.count(frames[0]) == 0


def test_people_are_counted(detector: Detector) -> None:
    [frame] = pictures(SPEAKER, 1)
    assert detector.count(frame) == 1
    assert detector.count(np.concatenate([frame, frame], axis=1)) == 2


def test_the_digests_are_those_of_the_models() -> None:
    identity = mediapipe.identity(Pose(), Path())
    assert identity["version"] == metadata.version("mediapipe") == "0.10.21"
    for name, digest in identity["models"].items():
        path = metadata.distribution("mediapipe").locate_file(f"mediapipe/modules/{name}")
        made = hashlib.sha256(Path(str(path)).read_bytes()).digest()
        assert base64.urlsafe_b64encode(made).decode().rstrip("=") == digest
