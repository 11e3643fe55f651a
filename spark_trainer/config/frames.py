"""Still frames."""

from typing import ClassVar, Literal

from pydantic import Field

from spark_trainer.config.limits import Limited
from spark_trainer.config.section import Positive, ValueType


class Frames(Limited):
    """Still frames of each video."""

    MANIFEST: ClassVar[dict[str, ValueType]] = {
        "duration": "number",
        "frame_times": ["number"],
        "fps": "number",
        "container_duration": "number",
        "container_fps": "number",
        "width": "whole",
        "height": "whole",
        "dynamic_range": "text",
        "interlaced": "flag",
        "motion": "number",
        "damaged": "text",
    }

    enabled: bool = Field(True, description="Extract frames.")
    frame_rate: Positive = Field(
        1.0, description="Frames per second of video; every video gives at least one."
    )
    jpeg_qscale: int = Field(
        2, ge=1, le=31, description="FFmpeg's scale of JPEG quality, 1 is the best."
    )
    max_side_px: int | None = Field(
        None,
        ge=16,
        description="Shrink frames so that the longer side is at most this; never enlarge them.",
    )
    damaged: Literal["use", "reject"] = Field(
        "use",
        description="What to do with a file that decodes only in part: use that part and mark the "
        "entry `damaged`, or reject the file.",
    )
    deinterlace: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Fill in the lines of interlaced frames: of those that the file marks as "
        "interlaced (auto), of all (on) or of none (off).",
    )
    max_megapixels: Positive = Field(
        150.0,
        description="Largest frame in millions of square pixels, as it is shown; a file with a "
        "larger one is rejected.",
    )
    max_frames: int = Field(
        999_999, ge=1, le=999_999, description="Most frames of a video; one with more is rejected."
    )
