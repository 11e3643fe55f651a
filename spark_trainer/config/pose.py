"""Where the person is and how it stands."""

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
# Keys that only `vitpose` reads, so that to `mediapipe` they decide nothing.
VITPOSE_KEYS = {"person_model", "person_threshold", "keypoint_model", "mask_model"}


class Pose(StepSection):
    """Skeleton, face, outline and background of the person in each video, for Wan2.2-Animate."""

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

    enabled: bool = Field(False, description="Prepare these.")
    detector: Literal["mediapipe", "vitpose"] = Field(
        "mediapipe",
        description="What finds the person; `mediapipe` works offline on a CPU, `vitpose` runs "
        "three checkpoints of transformers and wants a GPU.",
    )
    person_model: str = Field(
        "PekingU/rtdetr_r50vd_coco_o365",
        min_length=1,
        description=f"Finds people: {CHECKPOINT}",
    )
    person_threshold: Share = Field(
        0.5, description="Who is found less surely than this is nobody (vitpose)."
    )
    keypoint_model: str = Field(
        "usyd-community/vitpose-plus-huge",
        min_length=1,
        description=f"Finds a person's joints: {CHECKPOINT} One of 133 keypoints sees hands and "
        "face as well; for one of 17 they are MediaPipe's.",
    )
    mask_model: str = Field(
        "facebook/sam2.1-hiera-large",
        min_length=1,
        description=f"Finds a person's outline: SAM 2, {CHECKPOINT}",
    )
    frame_rate: Positive = Field(
        16.0, description="Frames per second; 16 is what Wan2.2-Animate is sampled at."
    )
    max_seconds: Positive | None = Field(
        60.0, description="Prepare only so much of the beginning of a video; null prepares it all."
    )
    max_side_px: int | None = Field(
        1280, ge=16, description="Shrink so that the longer side is at most this; never enlarge."
    )
    min_person_px: int = Field(
        96,
        ge=1,
        description="A person whose outline is shorter and narrower than this does not count: of "
        "someone so small the joints are guessed.",
    )
    min_share: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Least share of the frames that has to show a person; below it a video counts "
        "as one without.",
    )
    min_confidence: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Joints below this are not drawn, nor the limbs that end there.",
    )
    face_scale: float = Field(
        1.3, ge=1, description="Area of the face's crop, in boxes around the face's keypoints."
    )
    face_smoothing_s: float = Field(
        0.25, ge=0, description="Seconds over which the crop's place is averaged, to each side."
    )
    face_gap_s: float = Field(
        0.25,
        ge=0,
        description="A face that is lost for at most this long is cropped between where it was and "
        "where it is next; for longer the crop is black.",
    )
    mask_threshold: Share = Field(
        0.5, description="Pixels that are the person's at least this surely belong to the outline."
    )
    mask_growth_px: int = Field(
        9,
        ge=0,
        description="Grow the outline to every side, so that no rim stays in the background.",
    )
    device: Device = Field("cuda", description=f"{DEVICE} (vitpose)", json_schema_extra=Runtime)
    gpu_fraction: Share = Field(1.0, description=SHARE, json_schema_extra=Runtime)

    def results(self) -> dict[str, Any]:
        """The settings that decide what this detector finds."""
        unread = VITPOSE_KEYS if self.detector == "mediapipe" else set()
        return {key: value for key, value in super().results().items() if key not in unread}
