"""Speech to text."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from spark_trainer.config.labels import GIVEN
from spark_trainer.config.section import (
    DEVICE,
    SHARE,
    ConfigError,
    Device,
    Positive,
    Runtime,
    Share,
    StepSection,
    ValueType,
)

# Codes that Whisper knows (openai/whisper, tokenizer.py, LANGUAGES).
_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he "
    "hi hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne "
    "nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk "
    "ur uz vi yi yo yue zh"
)
WHISPER_LANGUAGES = frozenset(_CODES.split())

Backend = Literal["openai-whisper", "faster-whisper", "sidecar"]

TRAINED = "run:"  # before the name of a run, or the place of its model

WORD: ValueType = {"text": "text", "start": "number", "end": "number"}
SEGMENT: ValueType = {"text": "text", "start": "number", "end": "number", "words": [WORD]}


class Transcript(StepSection):
    """Speech to text."""

    UPSTREAM: ClassVar[tuple[str, ...]] = ("audio",)
    CORRECTED: ClassVar[tuple[str, ...]] = ("transcripts",)
    MANIFEST: ClassVar[dict[str, ValueType]] = {
        "transcript": "text",
        "language": "text",
        "segments": [SEGMENT],
        "no_transcript": "text",
        "transcriber": "text",
        "transcriber_model": "text",
        "transcriber_revision": "text",
        "transcripts": [
            {
                "track": "whole",
                "track_language": "text",
                "language": "text",
                "text": "text",
                "segments": [SEGMENT],
                "why": "text",
            }
        ],
    }

    enabled: bool = Field(True, description="Transcribe the audio.")
    backend: Backend | Annotated[tuple[Backend, ...], Field(min_length=1)] = Field(
        "openai-whisper",
        description="Which implementation runs Whisper; or `sidecar`, which takes the transcripts "
        "that `labels` names; or `[sidecar, faster-whisper]`, where Whisper hears the videos that "
        "have none.",
    )
    whisper_model: str = Field(
        "base",
        min_length=1,
        description="A size (tiny, base, … turbo), a path, `run:` and the name of a run with a "
        "`manifest_path`, which is trained first, or `offline-tiny.en`: weights that come with the "
        "installation.",
    )
    language: str | None = Field(
        None, description="Language code such as `en`; without it the language is detected."
    )
    initial_prompt: str | None = Field(
        None,
        description="Text that the model takes as spoken before the audio; it suggests names, "
        "spelling and style.",
    )
    word_timestamps: bool = Field(False, description="Give every word its start and end.")
    beam_size: int | None = Field(
        None,
        ge=1,
        description="Beams of the search, 1 is greedy. Without it the package's default: 5 "
        "(faster-whisper) or 1 (openai-whisper, where 5 beams take five times as long).",
    )
    temperatures: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.0,),
        min_length=1,
        description="Temperatures, tried in turn while a text repeats itself or is improbable; "
        "above 0 the text is sampled at random, in faster-whisper another one each time.",
    )
    silence_db: float = Field(
        -60.0, le=0, description="Audio with a peak below this, in dBFS, counts as silent."
    )
    vad: bool = Field(True, description="Transcribe only where a voice is detected.")
    no_speech_threshold: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Drop a segment where the probability of no speech is above this.",
    )
    log_prob_threshold: float = Field(
        -1.0,
        le=0,
        description="Drop a segment whose tokens have a mean log-probability below this.",
    )
    compression_ratio_threshold: Positive = Field(
        2.4, description="Drop a segment whose text compresses better than this, as it repeats."
    )
    max_repeats: int = Field(
        2, ge=1, description="Drop segments whose text comes more often than this in a row."
    )
    compute_type: Literal["auto", "int8", "float16", "float32"] = Field(
        "auto",
        description="Number type of the model; `auto`: float16 on a GPU, on a CPU int8 "
        "(faster-whisper) or float32 (openai-whisper).",
    )
    batch_size: int = Field(
        8,
        ge=1,
        description="Stretches of speech decoded at once, of several videos (faster-whisper with "
        "vad; else one by one).",
        json_schema_extra=Runtime,
    )
    device: Device = Field("cuda", description=DEVICE, json_schema_extra=Runtime)
    gpu_fraction: Share = Field(1.0, description=SHARE, json_schema_extra=Runtime)

    @property
    def given(self) -> bool:
        """Tell whether transcripts that are given are taken."""
        return GIVEN in self._backends

    @property
    def model_backend(self) -> str:
        """Return what runs Whisper; no text where nothing does."""
        return next((one for one in self._backends if one != GIVEN), "")

    @property
    def _backends(self) -> tuple[str, ...]:
        return self.backend if isinstance(self.backend, tuple) else (self.backend,)

    def results(self) -> dict[str, Any]:
        """Return the settings that texts depend on: of what is given, none of Whisper's.

        A list has the fingerprint of its model: which videos have a transcript is told of each.
        """
        if not self.model_backend:
            return {"enabled": self.enabled, "backend": GIVEN}
        return super().results() | {"backend": self.model_backend}

    @property
    def beams(self) -> int:
        """Return `beam_size`, else the backend's default."""
        return self.beam_size or (5 if self.model_backend == "faster-whisper" else 1)

    @model_validator(mode="after")
    def _fits_together(self) -> "Transcript":
        if len(self._backends) > 1 and (len(self._backends) > 2 or self._backends[0] != GIVEN):
            raise ConfigError(f"backend: expected one, or a list of {GIVEN} and another")
        if len(set(self._backends)) < len(self._backends):
            raise ConfigError("backend: expected each once")
        if self.model_backend == "openai-whisper" and self.compute_type == "int8":
            raise ConfigError("compute_type: expected float16 or float32 with openai-whisper")
        if self.language is not None and self.language not in WHISPER_LANGUAGES:
            known = ", ".join(sorted(WHISPER_LANGUAGES))
            raise ConfigError(f"language: expected one of {known} (got {self.language!r})")
        return self
