"""What a run reads of a manifest: which videos, what is said about them, which of their frames."""

from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from spark_trainer.config.section import ConfigError, Fraction, Positive, Section

Side = Annotated[int, Field(ge=8)]
NumFrames = Annotated[int, Field(ge=1)]


class Split(Section):
    """Which videos are held out; decided by content, so adding videos moves none."""

    validation: Fraction = Field(
        0.1, description="Share of videos for the held-out loss; 0 trains without one."
    )
    test: Fraction = Field(0.0, description="Share of videos that training never touches.")
    seed: int = Field(0, description="Another seed, another split.")

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ConfigError("validation, test: expected a sum below 1, to have some to train on")
        return self


class Text(Section):
    """What is said about a video; `{name}` is a key of the manifest's `meta`."""

    prompt: str | None = Field(
        None,
        description="What the user asks, such as `{question}` or `They say: {transcript}`; "
        "without it the family's own prompt.",
    )
    answer: str = Field("{caption}", description="What the model learns to say.")
    each: str | None = Field(
        None,
        description="A list in `meta`; every item becomes a sample of its own, its keys usable "
        "in `prompt` and `answer`.",
    )

    max_characters: int = Field(
        1_000_000,
        ge=1,
        description="Longest prompt or answer; a longer one is left out. A day of talk is one.",
    )

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
    """Which frames of a video a sample shows."""

    num_frames: NumFrames | Annotated[tuple[NumFrames, ...], Field(min_length=1)] = Field(
        8,
        description="Frames taken of a video. With `fps` or `stride` also a list, such as "
        "[33, 77]: as many of them as the video is long enough for.",
    )
    sampling: Literal["even", "random"] = Field(
        "even",
        description="`even` spreads the frames evenly; `random` draws another frame of each "
        "even part every epoch, and another window, the same ones for the same seed.",
    )
    seconds: Positive | None = Field(
        None, description="Length of the window that the frames come from; the whole video without."
    )
    max_side_px: int | None = Field(
        None,
        ge=16,
        description="Shrink frames so that the longer side is at most this; fewer pixels are fewer "
        "tokens for the families that take any size.",
    )
    source: Literal["frames", "video"] = Field(
        "frames",
        description="`frames` reads the JPEGs on disk; `video` decodes the video itself, at any "
        "rate and without a second compression.",
    )
    deinterlace: Literal["auto", "on", "off"] = Field(
        "auto",
        description="As `frames.deinterlace`, for `source: video`.",
    )
    fps: Positive | None = Field(
        None,
        description="Frames a second of a clip of exactly `num_frames`; a shorter video is left "
        "out.",
    )
    stride: int | None = Field(
        None, ge=1, description="The same by taking every so many-th frame instead."
    )
    sizes: tuple[tuple[Side, Side], ...] = Field(
        (),
        description="[[width, height], …] in pixels: frames are scaled and cropped to the one of "
        "the most similar shape. Without it diffusion takes the checkpoint's own size.",
    )
    flip: bool = Field(
        False, description="Mirror every other clip; wrong where captions say left and right."
    )
    reference: Literal["first", "random"] = Field(
        "first", description="Frame of the video that shows a family what a character looks like."
    )
    variants: int | None = Field(
        None,
        ge=1,
        description="How many clips chance makes of a video (window, mirroring, reference), for "
        "the epochs to take in turn. Without it 1 where clips are encoded ahead, else another in "
        "each epoch.",
    )
    replace: bool = Field(
        False,
        description="Show the surroundings and where the person is, so that Wan-Animate learns to "
        "replace a person instead of moving one.",
    )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Numbers of frames that a clip may have, the most first."""
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
        return self
