"""What people say of their videos, in files of theirs."""

from typing import ClassVar

from pydantic import Field, model_validator

from spark_trainer.config.section import ConfigError, PathTexts, Section

GIVEN = "sidecar"  # the captioner, and the transcriber, that takes what is given
BESIDE, HUB = "beside", "hub:"  # where labels lie: beside the videos, or at the hub

WHERE = "a file, a folder, a list of them, or `hub:` and the id of a data set"


class Labels(Section):
    """Captions, transcripts and more that you have already."""

    KINDS: ClassVar[tuple[str, ...]] = ("captions", "transcripts", "meta", "questions")

    captions: PathTexts = Field(
        BESIDE,
        description="Where the captioner `sidecar` finds captions: `beside` the videos as "
        f"`dog.txt`, {WHERE} (CSV, JSON, JSON lines, Parquet, Arrow).",
    )
    transcripts: PathTexts = Field(
        BESIDE,
        description="Where the transcriber `sidecar` finds transcripts: `beside` the videos as "
        f"SRT, VTT or whisperX's JSON, {WHERE}.",
    )
    meta: PathTexts | None = Field(
        None,
        description="Where more facts stand, for `meta` of the manifest: `beside` the videos as "
        f"yt-dlp's `dog.info.json`, {WHERE}.",
    )
    questions: PathTexts | None = Field(
        None,
        description="Files of questions with answers, in the format of Video-R1 or LLaMA-Factory: "
        "those about a video become its `meta.questions`.",
    )
    path_key: str | None = Field(
        None,
        min_length=1,
        description="Column or key that names a video, by its path or id; without it the first "
        "known one, such as `path`, `file_name` or `video`.",
    )
    caption_key: str | None = Field(
        None,
        min_length=1,
        description="Column or key that holds the caption; without it `caption`, `text` or "
        "`prompt`.",
    )
    meta_keys: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Keys that are taken into `meta`; without it all columns of a table, and of "
        "yt-dlp's file those that tell what the video is and whose.",
    )

    def places(self, kind: str) -> tuple[str, ...]:
        """Return where labels of a kind are."""
        where: str | tuple[str, ...] | None = getattr(self, kind)
        return (where,) if isinstance(where, str) else where or ()

    @model_validator(mode="after")
    def _questions_stand_in_files(self) -> "Labels":
        if BESIDE in self.places("questions"):
            raise ConfigError("questions: expected files")
        return self
