"""What a run that fine-tunes Whisper learns from sound: windows, rows of tokens, references."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spark_trainer.config.section import ConfigError, Fraction, PathText, Runtime, Section
from spark_trainer.config.transcript import WHISPER_LANGUAGES

Rate = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[int, Field(ge=1)]


class SpecAugment(Section):
    """Masks over the mel spectrogram (Park et al. 2019, arXiv:1904.08779); names and defaults are
    those of transformers, whose two shares decide whether there are any.
    """

    mask_time_prob: Fraction = Field(0.0, description="Share of the frames that is masked.")
    mask_time_length: Length = Field(10, description="Frames of a mask, of 10 ms each.")
    mask_time_min_masks: int = Field(
        2, ge=0, description="Least number of masks over frames, whatever the share."
    )
    mask_feature_prob: Fraction = Field(0.0, description="Share of the mel bands that is masked.")
    mask_feature_length: Length = Field(10, description="Mel bands of a mask.")
    mask_feature_min_masks: int = Field(
        0, ge=0, description="Least number of masks over mel bands, whatever the share."
    )

    @property
    def masks(self) -> bool:
        """Tell whether anything is masked."""
        return bool(self.mask_time_prob or self.mask_feature_prob)


class Asr(Section):
    """What `model_type: asr` learns: windows of up to 30 s of sound, and what is said in them."""

    language: str | None = Field(
        None,
        description="Whisper's code of the language, such as `en`; without it each video's own "
        "`language` in the manifest.",
    )
    task: Literal["transcribe", "translate"] = Field(
        "transcribe",
        description="Whether the references are what is said, or its translation into English.",
    )
    references: PathText | None = Field(
        None,
        description="What is said in the videos: a CSV file (id or path, text, and if known start, "
        "end, language), or a folder of SRT, VTT or whisperX's JSON files, named like the videos. "
        "Without it the manifest's transcripts.",
        json_schema_extra=Runtime,  # the run id counts what they hold instead
    )
    timestamps: Rate = Field(
        0.5, description="Share of the windows whose text is learnt with its times."
    )
    previous_text: Rate = Field(
        0.5, description="Share of the windows that are given the text before them."
    )
    no_speech: Rate = Field(
        0.1, description="Share of the stretches without speech that are learnt as such."
    )
    spec_augment: SpecAugment = Field(default_factory=SpecAugment)
    words: PathText | None = Field(
        None,
        description="A file of words, such as names, one a line: how many of them are recognised "
        "is told.",
        json_schema_extra=Runtime,
    )
    forgetting: PathText | None = Field(
        None,
        description="A second manifest that the model is scored on beside the held-out videos, to "
        "see what it forgets.",
        json_schema_extra=Runtime,
    )
    whole_files: bool = Field(
        True,
        description="Whether whole held-out videos are heard once the run is over, by its base and "
        "by what it trained.",
        json_schema_extra=Runtime,
    )
    export: tuple[Literal["hf", "ct2", "openai"], ...] = Field(
        ("hf", "ct2", "openai"),
        description="How the model is saved: `hf` for transformers in `final/` itself, `ct2` for "
        "faster-whisper in `final/ct2/`, `openai` for openai-whisper in `final/openai.pt`.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Asr":
        if self.language is not None and self.language not in WHISPER_LANGUAGES:
            known = ", ".join(sorted(WHISPER_LANGUAGES))
            raise ConfigError(f"language: expected one of {known} (got {self.language!r})")
        if "hf" not in self.export:
            raise ConfigError("export: expected hf among them, which the others are made from")
        return self
