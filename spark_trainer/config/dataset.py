"""What a run takes from a manifest: which videos, which texts, which frames."""

from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from spark_trainer.config.section import ConfigError, Fraction, PathText, Positive, Section

Side = Annotated[int, Field(ge=8)]
NumFrames = Annotated[int, Field(ge=1)]


class Split(Section):
    """Which videos are held out; each video's hash decides, so adding videos moves none."""

    validation: Fraction = Field(0.1, description="Share of videos for the held-out loss.")
    validation_paths: tuple[str, ...] = Field(
        (),
        description="Videos that are held out beside that share, by patterns of their paths below "
        "`video_dir`, such as `held-out/*`. `*` stands for any text, `/` too.",
    )
    test: Fraction = Field(0.0, description="Share of videos that training never uses.")
    seed: int = Field(0, description="Another seed gives another split.")

    @property
    def holds_out(self) -> bool:
        """Tell whether any videos are kept for the held-out loss."""
        return self.validation > 0 or bool(self.validation_paths)

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ConfigError("validation, test: expected a sum below 1, to have some to train on")
        return self


class Text(Section):
    """Prompt and answer about a video; `{name}` is a key of the manifest's `meta`."""

    prompt: str | None = Field(
        None,
        description="The user's text, such as `{question}` or `They say: {transcript}`; without it "
        "the family's own prompt.",
    )
    answer: str = Field("{caption}", description="The text that the model learns.")
    each: str | None = Field(
        None,
        description="Name of a list in `meta`; every item becomes a sample of its own, and "
        "`prompt` and `answer` can use the item's keys.",
    )
    questions: PathText | None = Field(
        None,
        description="File with questions, in the format of Video-R1 or LLaMA-Factory: those about "
        "a video become its `meta.questions`, for `each: questions`. Other videos are left out.",
    )
    max_characters: int = Field(
        1_000_000,
        ge=1,
        description="Longest prompt or answer; a sample with a longer one is left out. A day of "
        "speech has about a million characters.",
    )

    @model_validator(mode="after")
    def _takes_its_questions(self) -> "Text":
        if self.questions is not None and self.each != "questions":
            raise ConfigError("each: expected questions with a file of questions")
        return self

    @field_validator("prompt", "answer")
    @classmethod
    def _only_plain_names(cls, value: str | None) -> str | None:
        try:
            names = [name for _, name, _, _ in Formatter().parse(value or "") if name is not None]
        except ValueError as error:
            raise ValueError(f"a template, but {error}") from None
        if wrong := [name for name in names if not name.isidentifier()]:
            raise ValueError(f"names of `meta` in braces, not {wrong[0]!r}")
        return value


class Sampling(Section):
    """The frames of a video that a sample shows."""

    num_frames: NumFrames | Annotated[tuple[NumFrames, ...], Field(min_length=1)] = Field(
        8,
        description="Number of frames. With `fps` or `stride` also a list, such as [33, 77]: a "
        "video gets the largest number that it is long enough for.",
    )
    sampling: Literal["even", "random"] = Field(
        "even",
        description="`even` takes the middle of each of equal parts; `random` takes a random "
        "moment of each part, and a random window, new in every epoch; the same seed gives the "
        "same ones.",
    )
    seconds: Positive | None = Field(
        None,
        description="Length of the window that the frames come from; without it the whole video.",
    )
    max_side_px: int | None = Field(
        None,
        ge=16,
        description="Shrink frames so that the longer side is at most this; in families that take "
        "any size, fewer pixels are fewer tokens.",
    )
    source: Literal["frames", "video"] = Field(
        "frames",
        description="`frames` reads the JPEGs on disk; `video` decodes the video itself, at any "
        "rate and without a second compression.",
    )
    jpeg_decoding: Literal["full", "scaled"] = Field(
        "full",
        description="`full` decodes every pixel of a JPEG and then resizes; `scaled` lets libjpeg "
        "decode a half, a quarter or an eighth of each side where `max_side_px` or `sizes` need no "
        "more: two to five times fewer CPU seconds, slightly other pixels.",
    )
    deinterlace: Literal["auto", "on", "off"] = Field(
        "auto",
        description="The same as `frames.deinterlace`, for `source: video`.",
    )
    fps: Positive | None = Field(
        None,
        description="Frames per second of a clip of exactly `num_frames`; a video that is too "
        "short is left out.",
    )
    stride: int | None = Field(
        None,
        ge=1,
        description="Instead of `fps`: take every n-th frame, for a clip of exactly `num_frames`.",
    )
    sizes: tuple[tuple[Side, Side], ...] = Field(
        (),
        description="[[width, height], …] in pixels: frames are scaled and cropped to the size "
        "with the most similar aspect ratio. Without it diffusion takes the checkpoint's own size.",
    )
    flip: bool = Field(
        False,
        description="Mirror half of the clips at random; wrong where captions say left and right.",
    )
    reference: Literal["first", "random"] = Field(
        "first", description="Which frame shows the character's looks, for families that need one."
    )
    variants: int | None = Field(
        None,
        ge=1,
        description="Number of random clips of a video (window, mirroring, reference), which the "
        "epochs take in turn. Without it: one where clips are encoded ahead, else a new one in "
        "each epoch.",
    )
    replace: bool = Field(
        False,
        description="Give background and mask too, so that Wan-Animate learns to replace a person "
        "in a video instead of animating one.",
    )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the numbers of frames that a clip may have, the largest first."""
        several = self.num_frames if isinstance(self.num_frames, tuple) else (self.num_frames,)
        return tuple(sorted(set(several), reverse=True))

    @model_validator(mode="after")
    def _one_way(self) -> "Sampling":
        if isinstance(self.num_frames, tuple) and not (self.fps or self.stride):
            raise ConfigError("num_frames: expected one number without fps or stride")
        if self.fps and self.stride:
            raise ConfigError("fps, stride: expected one of the two")
        if self.seconds and (self.fps or self.stride):
            raise ConfigError("seconds: expected none with fps or stride, which give the length")
        if self.max_side_px and self.sizes:
            raise ConfigError("max_side_px: expected none with sizes")
        if self.jpeg_decoding == "scaled" and self.source == "video":
            raise ConfigError("jpeg_decoding: expected full with source: video")
        return self
