"""The pose of a person in each video."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from spark_trainer.config.section import (
    DEVICE,
    SHARE,
    Device,
    Positive,
    Runtime,
    Share,
    StepSection,
    ValueType,
)

CHECKPOINT = "hub id, `id@commit` or local folder (vitpose)."
# Keys that only `vitpose` reads; they don't enter the fingerprint of `mediapipe`.
VITPOSE_KEYS = {"person_model", "person_threshold", "keypoint_model", "mask_model"}


class Pose(StepSection):
    """Skeleton, face, mask and background of the person in each video, for Wan2.2-Animate."""

    MANIFEST: ClassVar[dict[str, ValueType]] = {
        "pose": {
            "dir": "path",
            "fps": "number",
            "frames": "whole",
            "width": "whole",
            "height": "whole",
            "people": "whole",
            "person_lost": [["whole"]],
            "face_lost": [["whole"]],
        },
        "no_pose": "text",
    }

    enabled: bool = Field(False, description="Prepare them.")
    detector: Literal["mediapipe", "vitpose"] = Field(
        "mediapipe",
        description="What finds the person: `mediapipe` works offline on a CPU, `vitpose` runs "
        "three checkpoints of transformers and needs a GPU.",
    )
    person_model: str = Field(
        "PekingU/rtdetr_r50vd_coco_o365",
        min_length=1,
        description=f"Finds people: {CHECKPOINT}",
    )
    person_threshold: Share = Field(
        0.5, description="People found with a lower confidence than this are ignored (vitpose)."
    )
    keypoint_model: str = Field(
        "usyd-community/vitpose-plus-huge",
        min_length=1,
        description=f"Finds a person's joints: {CHECKPOINT} A model with 133 keypoints finds hands "
        "and face too; with a model of 17 they are taken from MediaPipe.",
    )
    mask_model: str = Field(
        "facebook/sam2.1-hiera-large",
        min_length=1,
        description=f"Finds a person's mask: SAM 2, {CHECKPOINT}",
    )
    frame_rate: Positive = Field(
        16.0, description="Frames per second; Wan2.2-Animate is trained at 16."
    )
    max_seconds: Positive | None = Field(
        60.0, description="Seconds to prepare from the start of a video; null prepares all of it."
    )
    max_side_px: int | None = Field(
        1280,
        ge=16,
        description="Shrink frames so that the longer side is at most this; never enlarge them.",
    )
    min_person_px: int = Field(
        96,
        ge=1,
        description="A person whose mask is less high and less wide than this is ignored: the "
        "joints of someone so small are guessed.",
    )
    min_share: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Least share of the frames that must show a person; with less, a video counts "
        "as one without a person.",
    )
    min_confidence: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Joints with a lower confidence are not drawn, nor limbs that end there.",
    )
    face_scale: float = Field(
        1.3, ge=1, description="Area of the face's crop over that of the box around its keypoints."
    )
    face_smoothing_s: float = Field(
        0.25, ge=0, description="The crop is averaged over this many seconds before and after."
    )
    face_gap_s: float = Field(
        0.25,
        ge=0,
        description="Where no face is found for at most this long, the crop moves from the last "
        "position to the next; for longer it is black.",
    )
    mask_threshold: Share = Field(
        0.5, description="Pixels with at least this confidence belong to the mask."
    )
    mask_growth_px: int = Field(
        9,
        ge=0,
        description="Grow the mask by this on every side, so that the background shows no rim of "
        "the person.",
    )
    device: Device = Field("cuda", description=f"{DEVICE} (vitpose)", json_schema_extra=Runtime)
    gpu_fraction: Share = Field(1.0, description=SHARE, json_schema_extra=Runtime)

    def results(self) -> dict[str, Any]:
        """Return the settings that this detector's results depend on."""
        unread = VITPOSE_KEYS if self.detector == "mediapipe" else set()
        return {key: value for key, value in super().results().items() if key not in unread}
