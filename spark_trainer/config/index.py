"""Finding and hashing video files."""

from typing import Annotated

from pydantic import AfterValidator, Field

from spark_trainer.config.section import Positive, Runtime, Section

# In lower case and with the dot, as names are compared. `.webp` is missing in the default because
# FFmpeg 8 decodes no animation in it.
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
        description="Endings of file names that are taken as videos, in upper or lower case.",
    )
    shard_size: int = Field(
        512, ge=1, description="Videos of one job, roughly; at most about twice as many."
    )
    allow_empty: bool = Field(
        False,
        description="Go on when a folder of `video_dir` has lost all of its videos. By default "
        "this stops, because a folder that is not mounted would empty the manifest.",
        json_schema_extra=Runtime,
    )
    rehash: bool = Field(
        False,
        description="Read every file again, even where size and time are unchanged.",
        json_schema_extra=Runtime,
    )
    max_hash_gb: Positive = Field(
        500.0,
        description="Stop if more than this many GB of new videos must be read before the first "
        "job; `python -m spark_trainer index` reads them with a progress bar.",
        json_schema_extra=Runtime,
    )
