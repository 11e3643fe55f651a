"""Three checkpoints of transformers: people's boxes, the joints of one person, the person's mask.

People are found by any `AutoModelForObjectDetection` that has a label `person`, such as RT-DETR
(Zhao et al. 2023, arXiv:2304.08069); joints by ViTPose (Xu et al. 2022, arXiv:2204.12484) or
ViTPose++ (arXiv:2212.04246) inside the person's box; the mask by SAM 2 (Ravi et al. 2024,
arXiv:2408.00714), with the same box. All run in float32. A checkpoint of COCO's 17 joints has
neither hands nor face: they are taken from MediaPipe, where it finds them on the same person.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config import ConfigError, Pose
from spark_trainer.data import models
from spark_trainer.data.files import read_json
from spark_trainer.detectors import POINTS, Detector, Follow, Person, mediapipe, wholebody
from spark_trainer.detectors.box import follow, inside
from spark_trainer.system import environment, extras
from spark_trainer.system.memory import fitting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spark_trainer.detectors.box import Box, Boxes

    Picture = NDArray[np.uint8]  # (height, width, 3), RGB

PACKAGES = ("scipy", "torch", "transformers")
NEEDS_GPU = True

# Key of the configuration -> upstream's classes of model and processor, and the allowed values of
# `model_type`; none where the class takes many.
CHECKPOINTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "person_model": ("AutoModelForObjectDetection", "AutoImageProcessor", ()),
    "keypoint_model": ("VitPoseForPoseEstimation", "VitPoseImageProcessor", ("vitpose",)),
    "mask_model": ("Sam2Model", "Sam2Processor", ("sam2", "sam2_video")),
}
PERSON = "person"
# Number of keypoints -> ViTPose++'s expert for them, numbered as in upstream's documentation.
EXPERTS = {wholebody.COCO: 0, wholebody.WHOLE: 5}


def identity(settings: Pose, cache: Path) -> dict[str, Any]:
    """Return what the checkpoints' names stand for, and MediaPipe's models where they are used.

    A local folder stands for its content's digest, a hub id for itself with its revision.

    Raises:
        ConfigError: a local checkpoint is missing, incomplete or of another type, or a package is
            missing.
    """
    if importlib.util.find_spec("scipy") is None:
        raise ConfigError(
            "pose.detector: vitpose needs scipy, with which transformers crops people and reads "
            f"heatmaps, and which is not installed: {extras.installs('scipy')}"
        )
    found: dict[str, Any] = {}
    for key, (_, _, types) in CHECKPOINTS.items():
        name, revision = named(getattr(settings, key))
        models.check(name, types, f"pose.{key}", reads_text=False)
        found[key] = models.identity(name, cache, revision)
    if _local_keypoints(settings) != wholebody.WHOLE and _installed("mediapipe"):
        found["mediapipe"] = mediapipe.identity(settings, cache)
    return {"models": found}


def named(checkpoint: str) -> tuple[str, str]:
    """Return a checkpoint's name and revision; a hub id may end in `@` and a revision."""
    if Path(checkpoint).expanduser().exists():
        return str(Path(checkpoint).expanduser()), "main"
    name, _, revision = checkpoint.partition("@")
    return name, revision or "main"


def _local_keypoints(settings: Pose) -> int | None:
    """Return how many keypoints a local checkpoint finds; None for a hub id.

    Raises:
        ConfigError: the number is neither COCO's nor COCO-WholeBody's.
    """
    path = Path(named(settings.keypoint_model)[0]) / "config.json"
    if not path.is_file():
        return None
    return _known(settings, len(read_json(path).get("id2label", ("LABEL_0", "LABEL_1"))))


def _known(settings: Pose, keypoints: int) -> int:
    if keypoints not in EXPERTS:
        raise ConfigError(
            f"pose.keypoint_model: {settings.keypoint_model} has {keypoints} labels; expected "
            "COCO's 17 keypoints or COCO-WholeBody's 133"
        )
    return keypoints


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def load(settings: Pose, device: str, threads: int) -> Detector:
    """Load the three models, and MediaPipe where hands and face come from it.

    Raises:
        ConfigError: a checkpoint is not there, not cached while there is no network, of another
            kind, or has no label `person` or another number of keypoints.
        MachineError: the disk, the network or the hub fails, or one does not fit into memory.
    """
    with _fitting(device):
        return VitPose(settings, device, threads)


class VitPose(Detector):
    """Boxes, joints and mask by transformers, of the person whom `box.follow` chooses."""

    def __init__(self, settings: Pose, device: str, threads: int) -> None:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("pose.device: a GPU is here, but this PyTorch can't use it")
        torch.set_num_threads(threads)
        self._threshold, self._device = settings.person_threshold, device
        self._min_confidence = settings.min_confidence
        loaded = {key: _pretrained(settings, key, device) for key in CHECKPOINTS}
        self._commits = {
            key: commit
            for key, (model, _) in loaded.items()
            if (commit := getattr(model.config, "_commit_hash", None))
        }
        self._people, self._person_processor = loaded["person_model"]
        self._keypoints, self._keypoint_processor = loaded["keypoint_model"]
        self._masks, self._mask_processor = loaded["mask_model"]
        known = self._people.config.id2label
        self._labels = [number for number, name in known.items() if name.lower() == PERSON]
        if not self._labels:
            raise ConfigError(
                f"pose.person_model: {settings.person_model} has no label {PERSON!r}; it has "
                f"{', '.join(list(known.values())[:5])}, …"
            )
        self._count = _known(settings, self._keypoints.config.num_labels)
        self._beside: Detector | None = None
        if self._count == wholebody.COCO:
            mediapipe.identity(settings, Path())  # refuses where it is not installed
            with _hushed():
                self._beside = mediapipe.load(settings, "cpu", threads)

    @property
    def facts(self) -> dict[str, Any]:
        """Return the device, the number of keypoints, and commits of hub ids."""
        facts: dict[str, Any] = {"device": self._device, "keypoints": self._count}
        return facts | ({"commits": self._commits} if self._commits else {})

    @contextlib.contextmanager
    def following(self, rate: float) -> Iterator[Follow]:
        last: Box | None = None
        with contextlib.ExitStack() as stack:
            beside: Follow | None = None
            if self._beside:
                with _hushed():
                    beside = stack.enter_context(self._beside.following(rate))

            def find(picture: "Picture") -> Person | None:
                nonlocal last
                other = None
                if beside:
                    with _hushed():
                        other = beside(picture)  # every picture, as it counts time by them
                picture = picture.copy()  # PyTorch wants it writable
                with _fitting(self._device):
                    last = box = follow(last, self.people(picture))
                    return None if box is None else self._person(picture, box, other)

            yield find

    def count(self, picture: "Picture") -> int:
        with _fitting(self._device):
            return len(self.people(picture.copy()))

    def people(self, picture: "Picture") -> "Boxes":
        """Return the boxes of all people above the threshold, by falling confidence."""
        import numpy as np
        import torch

        height, width = picture.shape[:2]
        inputs = self._person_processor(images=picture, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            outputs = self._people(**inputs)
        [found] = self._person_processor.post_process_object_detection(
            outputs, threshold=self._threshold, target_sizes=[(height, width)]
        )
        labels = torch.tensor(self._labels, device=found["labels"].device)
        person = torch.isin(found["labels"], labels)
        order = found["scores"][person].argsort(descending=True, stable=True)
        boxes: Boxes = found["boxes"][person][order].float().cpu().numpy()
        boxes = np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)
        return boxes[(boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)]

    def _person(self, picture: "Picture", box: "Box", other: Person | None) -> Person:
        import numpy as np

        parts: dict[str, Any] = wholebody.regroup(self.keypoints(picture, box))
        if "face" in parts and parts["face"][:, 2].mean() < self._min_confidence:
            parts["face"][:] = 0  # a heatmap has a peak even where the face is turned away
        sides = np.array(picture.shape[1::-1] * 2)
        for name in POINTS.keys() - parts.keys():
            theirs = None if other is None else getattr(other, name)
            on = theirs is not None and inside(theirs, box / sides)
            parts[name] = theirs if on else np.zeros((POINTS[name], 3), np.float32)
        return Person(**parts, mask=self.mask(picture, box))

    def keypoints(self, picture: "Picture", box: "Box") -> "NDArray[np.float32]":
        """Find the joints of the person in a box: (17 or 133, 3), x and y as shares of the picture.

        The confidence is the heatmap's peak; outside of the picture it is 0.
        """
        import numpy as np
        import torch

        where = [[[*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]]]  # left, top, width, height
        inputs = self._keypoint_processor(picture, boxes=where, return_tensors="pt")
        inputs = dict(inputs.to(self._device))
        if self._keypoints.config.backbone_config.num_experts > 1:
            inputs["dataset_index"] = torch.tensor([EXPERTS[self._count]], device=self._device)
        with torch.inference_mode():
            outputs = self._keypoints(**inputs)
        [[found]] = self._keypoint_processor.post_process_pose_estimation(outputs, boxes=where)
        xy = found["keypoints"].numpy() / picture.shape[1::-1]
        seen = ((xy >= 0) & (xy < 1)).all(axis=1)
        sure = np.where(seen, np.clip(found["scores"].numpy(), 0, 1), 0)
        return np.column_stack([np.nan_to_num(xy), sure]).astype(np.float32)

    def mask(self, picture: "Picture", box: "Box") -> "NDArray[np.float32]":
        """Return the confidence that each pixel is the person's in a box; upstream cuts at 0.5."""
        import torch

        inputs = self._mask_processor(
            images=picture, input_boxes=[[box.tolist()]], return_tensors="pt"
        )
        sizes = inputs["original_sizes"].tolist()
        with torch.inference_mode():
            outputs = self._masks(**inputs.to(self._device), multimask_output=False)
        [logits] = self._mask_processor.post_process_masks(
            outputs.pred_masks, sizes, binarize=False
        )
        sure: NDArray[np.float32] = logits[0, 0].sigmoid().cpu().numpy()
        return sure


def _pretrained(settings: Pose, key: str, device: str) -> tuple[Any, Any]:
    """Load a checkpoint's model, on its device, and its processor; code in it is not run."""
    import torch
    import transformers

    model, processor, _ = CHECKPOINTS[key]
    name, revision = named(getattr(settings, key))
    options = {"revision": revision, "trust_remote_code": False}
    environment.quiet_libraries()
    try:
        prepares = getattr(transformers, processor).from_pretrained(name, **options)
        loaded = getattr(transformers, model).from_pretrained(
            name, **options, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise models.unusable(f"pose.{key}: {name} can't be loaded: {error}", error) from error
    return loaded.eval().to(device), prepares


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Drop the messages of MediaPipe's C++, which writes to the descriptor of stderr."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _fitting(device: str) -> contextlib.AbstractContextManager[None]:
    return fitting(
        f"pose: one picture does not fit into the memory of {device}; expected a smaller "
        "pose.keypoint_model or pose.mask_model, or a larger pose.gpu_fraction"
    )
