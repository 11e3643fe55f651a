"""What goes out: data sets for other tools, made of the manifest."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from spark_trainer.config.dataset import NumFrames, Side, Split, Text
from spark_trainer.config.section import ConfigError, ResultText, Section

FORMATS = Path(__file__).parent.parent / "exports/formats"
if TYPE_CHECKING:
    Format = str
else:
    Format = Literal[tuple(sorted(p.stem.replace("_", "-") for p in FORMATS.glob("[!_]*.py")))]
Media = Literal["link", "copy", "none"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Export(Section):
    """A data set for another tool."""

    to: Format = Field(description="What it is for; docs/exports.md says who reads each.")
    output_dir: ResultText = Field("exports", description="Folder that gets a folder for it.")
    media: Media | None = Field(
        None,
        description="`link` leads to the videos where they lie, `copy` holds them, `none` leaves "
        "them out; without it what suits the tool best.",
    )
    names: Literal["hash", "source"] = Field(
        "hash",
        description="What a video is called there: the hash of its content, or its file's name as "
        "far as that is safe, with a part of the hash where several have one name.",
    )
    split: Split = Field(
        default_factory=Split, description="The same settings as a run's give the same split."
    )
    text: Text = Field(
        default_factory=Text,
        description="What is said of a video, as for a run. `each` suits tools that take several "
        "texts of a video.",
    )
    resolution: tuple[Side, Side] = Field(
        (960, 544),
        description="[width, height] in pixels, for musubi-tuner, diffusion-pipe and simpletuner.",
    )
    num_frames: NumFrames = Field(
        49, description="Frames of a clip, for musubi-tuner, diffusion-pipe and simpletuner."
    )
    shard_mb: int = Field(
        1000, ge=1, description="Largest shard of webdataset in megabytes; a video is never cut."
    )
    video_token: Literal["<image>", "<video>"] = Field(
        "<image>",
        description="What stands for the video in a text of llava: `<image>` in LLaVA's own "
        "trainers, `<video>` in Video-LLaVA's and Qwen's.",
    )
    each_word: bool = Field(
        False, description="One subtitle for each word in srt and vtt, where its times are known."
    )

    @model_validator(mode="after")
    def _questions_come_from_labels(self) -> "Export":
        if self.text.questions is not None:
            raise ConfigError("text.questions: expected labels.questions, of the whole store")
        return self
