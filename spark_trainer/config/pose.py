"""Where the person is and how it stands."""

from typing import Literal

from pydantic import Field

from spark_trainer.config.section import Positive, Section, Share


class Pose(Section):
    """Skeleton, face, outline and background of the person in each video, for Wan2.2-Animate."""

    enabled: bool = Field(False, description="Prepare these.")
    detector: Literal["mediapipe"] = Field(
        "mediapipe", description="What finds the person; `mediapipe` works offline on a CPU."
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
