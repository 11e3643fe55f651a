"""MediaPipe Holistic: body, hands, face and outline of one person, on a CPU and offline.

The models come inside the wheel of 0.10.21; later wheels hold none. Its graph is started here as a
text that only C++ reads: the Python classes of that version (`mp.solutions`) need protobuf < 5.

Holistic gives 33 joints (BlazePose), 21 points of each hand and a mesh of 468 points of the face;
the tables below map them to COCO-WholeBody's. The neck is the middle of the shoulders; a toe is the
tip of the foot. Points of a hand or a face have no confidence of their own: 1 where it was found.
"""

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import ConfigError, Pose
from spark_trainer.detectors import POINTS, Detector, Follow, Person
from spark_trainer.system import extras

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGES = ("mediapipe",)
NEEDS_GPU = False
MODELS = (
    "face_detection/face_detection_short_range.tflite",
    "face_landmark/face_landmark.tflite",
    "hand_landmark/hand_landmark_full.tflite",
    "holistic_landmark/hand_recrop.tflite",
    "pose_detection/pose_detection.tflite",
    "pose_landmark/pose_landmark_full.tflite",
)

NECK = (11, 12)  # the shoulders
# Numbers of the body's joints, in the order of `BODY`; the neck is inserted after the nose.
JOINTS = (0, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7, 31, 32)
# Numbers in the mesh of iBUG's 68 points (jaw, brows, nose, eyes, outer and inner lips).
FACE = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)

OPTIONS = {
    "MODEL_COMPLEXITY": 1,  # the only one whose model is in the wheel
    "SMOOTH_LANDMARKS": True,
    "ENABLE_SEGMENTATION": True,
    "SMOOTH_SEGMENTATION": True,
    "REFINE_FACE_LANDMARKS": False,
    "USE_PREV_LANDMARKS": True,
}
RESULTS = {
    "POSE_LANDMARKS": "body",
    "LEFT_HAND_LANDMARKS": "left_hand",
    "RIGHT_HAND_LANDMARKS": "right_hand",
    "FACE_LANDMARKS": "face",
    "SEGMENTATION_MASK": "mask",
}
Found = dict[str, Any]  # result -> MediaPipe's packet


def identity(settings: Pose, cache: Path) -> dict[str, Any]:
    """Return the version, and the models' SHA-256 as the wheel's list of files gives them.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        package = metadata.distribution(PACKAGES[0])
    except metadata.PackageNotFoundError:
        raise ConfigError(
            "pose.enabled: mediapipe is not installed; expected mediapipe==0.10.21, whose wheels "
            "are for Python up to 3.12, on Linux for x86_64 only: "
            f"{extras.installs(PACKAGES[0])}"
        ) from None
    files = {file.as_posix(): file.hash for file in package.files or ()}
    digests = {name: files.get(f"mediapipe/modules/{name}") for name in MODELS}
    return {
        "version": package.version,
        "models": {name: known.value if known else None for name, known in digests.items()},
    }


def load(settings: Pose, device: str, threads: int) -> Detector:
    """Return the detector; it loads its graphs for each video, which takes two seconds."""
    return MediaPipe()


class MediaPipe(Detector):
    """MediaPipe Holistic, which follows one person: of several the one with the highest score."""

    def __init__(self) -> None:
        self._counted = itertools.count()

    @cached_property
    def _counting(self) -> "_Graph":
        return _Graph(_detection(), {}, ["people"])

    @contextlib.contextmanager
    def following(self, rate: float) -> Iterator[Follow]:
        numbers = itertools.count()
        with _Graph(_holistic(), OPTIONS, RESULTS.values()) as graph:

            def find(picture: "NDArray[np.uint8]") -> Person | None:
                found = graph(picture, round(next(numbers) * 1e6 / rate))
                return _person(found) if {"body", "mask"} <= set(found) else None

            yield find

    def count(self, picture: "NDArray[np.uint8]") -> int:
        found = self._counting(picture, next(self._counted))
        return len(_bindings().get_proto_list(found["people"])) if "people" in found else 0


class _Bindings:
    """The functions of MediaPipe that are used here."""

    def __init__(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # a line about protobuf 7
            import mediapipe
            from mediapipe.python import packet_creator, packet_getter
            from mediapipe.python._framework_bindings import (
                calculator_graph,
                image_frame,
                resource_util,
            )
        resource_util.set_resource_dir(str(Path(mediapipe.__file__).parent.parent))
        self.graph = calculator_graph.CalculatorGraph
        self.rgb = image_frame.ImageFormat.SRGB
        self.image = packet_creator.create_image_frame
        self.option = {bool: packet_creator.create_bool, int: packet_creator.create_int}
        self.get_proto = packet_getter.get_proto
        self.get_proto_list = packet_getter.get_proto_list
        self.get_image = packet_getter.get_image_frame


@cache
def _bindings() -> _Bindings:
    return _Bindings()


class _Graph:
    """A running graph: it takes one picture and returns the resulting packets."""

    def __init__(self, text: str, options: dict[str, Any], results: Iterable[str]) -> None:
        bindings = _bindings()
        self._found: Found = {}
        self._graph = bindings.graph(graph_config=text)
        for result in results:
            self._graph.observe_output_stream(result, self._found.__setitem__, False)
        given = {key.lower(): bindings.option[type(value)](value) for key, value in options.items()}
        self._graph.start_run(given)

    def __enter__(self) -> "_Graph":
        return self

    def __exit__(self, *_: object) -> None:
        self._graph.close()

    def __call__(self, picture: "NDArray[np.uint8]", microseconds: int) -> Found:
        import numpy as np

        bindings = _bindings()
        packet = bindings.image(image_format=bindings.rgb, data=np.ascontiguousarray(picture))
        self._found.clear()
        self._graph.add_packet_to_input_stream("picture", packet.at(microseconds))
        self._graph.wait_until_idle()
        return {name: packet for name, packet in self._found.items() if not packet.is_empty()}


def _holistic() -> str:
    sides = "".join(f'input_side_packet: "{key.lower()}"\n' for key in OPTIONS)
    inner = "".join(f'input_side_packet: "{key}:{key.lower()}"\n' for key in OPTIONS)
    inner += "".join(f'output_stream: "{tag}:{name}"\n' for tag, name in RESULTS.items())
    return _graph("HolisticLandmarkCpu", sides, inner)


def _detection() -> str:
    return _graph("PoseDetectionCpu", "", 'output_stream: "DETECTIONS:people"\n')


def _graph(calculator: str, sides: str, inner: str) -> str:
    """Write a graph in protobuf's text form around one of MediaPipe's own."""
    node = f'calculator: "{calculator}"\ninput_stream: "IMAGE:picture"\n{inner}'
    return f'input_stream: "picture"\n{sides}node {{\n{node}}}\n'


def _person(found: Found) -> Person:
    import numpy as np

    bindings = _bindings()
    points = {name: _points(found.get(name)) for name in ("left_hand", "right_hand", "face")}
    joints = bindings.get_proto(found["body"]).landmark
    body_33 = np.array([(j.x, j.y, j.visibility) for j in joints], dtype=np.float32)
    shoulders = body_33[list(NECK)]
    neck = np.append(shoulders[:, :2].mean(axis=0), shoulders[:, 2].min()).astype(np.float32)
    body = np.insert(body_33[list(JOINTS)], 1, neck, axis=0)
    mask = bindings.get_image(found["mask"]).numpy_view().copy()
    if len(points["face"]):
        points["face"] = points["face"][list(FACE)]
    parts = {
        name: _inside(one if len(one) else np.zeros((POINTS[name], 3), np.float32))
        for name, one in (points | {"body": body}).items()
    }
    return Person(**parts, mask=mask)


def _points(packet: Any) -> "NDArray[np.float32]":
    import numpy as np

    marks = _bindings().get_proto(packet).landmark if packet is not None else ()
    return np.array([(mark.x, mark.y, 1.0) for mark in marks], dtype=np.float32)


def _inside(points: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Set the confidence of points to 0 that MediaPipe guesses outside of the picture."""
    outside = ((points[:, :2] < 0) | (points[:, :2] >= 1)).any(axis=1)
    points[outside, 2] = 0
    return points
