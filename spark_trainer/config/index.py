"""Which files are videos, and how they are hashed."""

from pydantic import Field

from spark_trainer.config.section import Positive, Runtime, Section


class Index(Section):
    """How videos are found, identified and grouped."""

    extensions: tuple[str, ...] = Field(
        (
            ".3gp",
            ".avi",
            ".flv",
            ".m2ts",
            ".m4v",
            ".mkv",
            ".mov",
            ".mp4",
            ".mpeg",
            ".mpg",
            ".mts",
            ".ogv",
            ".ts",
            ".webm",
            ".wmv",
        ),
        description="File name endings, lower case, that make a file a video.",
    )
    shard_size: int = Field(
        512, ge=1, description="Videos that one job handles, at most about twice as many."
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
