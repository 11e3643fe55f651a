"""Which files are videos, and how they are hashed."""

from typing import Annotated

from pydantic import AfterValidator, Field

from spark_trainer.config.section import Positive, Runtime, Section

# As files' names are compared: in lower case, with the dot; .webp is none, FFmpeg 8 decodes no
# animation in it.
Ending = Annotated[
    str, Field(min_length=1), AfterValidator(lambda text: f".{text.lower().lstrip('.')}")
]


class Index(Section):
    """How videos are found, identified and grouped."""

    extensions: tuple[Ending, ...] = Field(
        (
            ".3g2",
            ".3gp",
            ".asf",
            ".avi",
            ".divx",
            ".dv",
            ".f4v",
            ".flv",
            ".gif",
            ".m1v",
            ".m2t",
            ".m2ts",
            ".m2v",
            ".m4v",
            ".mkv",
            ".mod",
            ".mov",
            ".mp4",
            ".mpe",
            ".mpeg",
            ".mpg",
            ".mts",
            ".mxf",
            ".ogm",
            ".ogv",
            ".qt",
            ".rm",
            ".rmvb",
            ".tod",
            ".tp",
            ".trp",
            ".ts",
            ".vob",
            ".webm",
            ".wmv",
            ".wtv",
        ),
        description="File name endings, upper or lower case, that make a file a video.",
    )
    shard_size: int = Field(
        512, ge=1, description="Videos that one job handles, at most about twice as many."
    )
    allow_empty: bool = Field(
        False,
        description="Go on where a folder of `video_dir` holds no video any more; without it a "
        "folder that is not mounted would empty the manifest.",
        json_schema_extra=Runtime,
    )
    rehash: bool = Field(
        False,
        description="Read every file again, even where size and time are unchanged.",
        json_schema_extra=Runtime,
    )
    max_hash_gb: Positive = Field(
        500.0,
        description="Stop instead of reading more new video than this, in GB, before the first "
        "job; `python -m spark_trainer index` then does it with a progress bar.",
        json_schema_extra=Runtime,
    )
