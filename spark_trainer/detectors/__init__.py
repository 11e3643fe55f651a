"""Finding a person in a video behind one interface; one module per backend, named like its value.

A backend's module holds

    PACKAGES    the distributions that it runs
    NEEDS_GPU   whether it is too slow without a GPU; then one process works, else one per core
    identity    (settings, cache) -> all that its results depend on; `models`: the weights' digests
    load        (settings, device, threads) -> Detector

Keypoints are the 133 of COCO-WholeBody as the official preparation of Wan2.2-Animate regroups them
(pose2d_utils.py): 20 of the body, 21 of each hand, 68 of the face. Left means the person's left.
A keypoint is x, y and confidence; x and y are shares of the picture's width and height.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from spark_trainer.config import Pose

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BODY = (
    *("nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder"),
    *("left elbow", "left wrist", "right hip", "right knee", "right ankle", "left hip"),
    *("left knee", "left ankle", "right eye", "left eye", "right ear", "left ear"),
    *("left toe", "right toe"),
)
POINTS = {"body": len(BODY), "left_hand": 21, "right_hand": 21, "face": 68}


@dataclass(frozen=True)
class Person:
    """One person in one picture; keypoints that were not found have confidence 0."""

    body: "NDArray[np.float32]"  # (20, 3)
    left_hand: "NDArray[np.float32]"  # (21, 3)
    right_hand: "NDArray[np.float32]"  # (21, 3)
    face: "NDArray[np.float32]"  # (68, 3)
    mask: "NDArray[np.float32]"  # (height, width), confidence that a pixel is the person's

    @property
    def has_face(self) -> bool:
        """Tell whether the face was found."""
        return bool(self.face[:, 2].any())


Follow = Callable[["NDArray[np.uint8]"], Person | None]  # of a picture (height, width, 3), RGB


class Detector(ABC):
    """Loaded models, for the videos of one process, one after the other."""

    @abstractmethod
    def following(self, rate: float) -> "AbstractContextManager[Follow]":
        """Give a function that finds one person in the pictures of a video, in their order.

        Of several people it takes the one with the highest confidence, then whoever overlaps with
        that one's last position.

        Args:
            rate: pictures per second.
        """

    @abstractmethod
    def count(self, picture: "NDArray[np.uint8]") -> int:
        """Count the people in a picture, as far as the backend can."""

    @property
    def facts(self) -> dict[str, Any]:
        """Return what a record holds of the models beyond the settings and their identity."""
        return {}


class Backend(Protocol):
    """What a backend's module offers."""

    PACKAGES: tuple[str, ...]
    NEEDS_GPU: bool

    def identity(self, settings: Pose, cache: Path) -> dict[str, Any]: ...
    def load(self, settings: Pose, device: str, threads: int) -> Detector: ...


def backend(name: str) -> Backend:
    """Return the module of a configured backend."""
    return cast(Backend, importlib.import_module(f"{__name__}.{name}"))
