"""The sections of the steps that make data, in the order of the pipeline."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from spark_trainer.config.section import ConfigError, Positive, Runtime, Section

# Codes that Whisper knows (openai/whisper, tokenizer.py, LANGUAGES).
_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he "
    "hi hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne "
    "nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk "
    "ur uz vi yi yo yue zh"
)
WHISPER_LANGUAGES = frozenset(_CODES.split())


def _language_code(value: str) -> str:
    if not (2 <= len(value) <= 3 and value.isascii() and value.isalpha() and value.islower()):
        raise PydanticCustomError("language_code", "Input should be a code such as `eng`")
    return value


LanguageCode = Annotated[str, AfterValidator(_language_code)]


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


class Frames(Section):
    """Still frames of each video."""

    enabled: bool = Field(True, description="Extract frames.")
    frame_rate: Positive = Field(
        1.0, description="Frames per second of video; a video always gives at least one."
    )
    jpeg_qscale: int = Field(2, ge=1, le=31, description="FFmpeg's JPEG scale, 1 is the best.")
    max_side_px: int | None = Field(
        None, ge=16, description="Shrink so that the longer side is at most this; never enlarge."
    )
    damaged: Literal["use", "reject"] = Field(
        "use",
        description="What to do with a file of which only a part decodes: use that part and "
        "mark the entry `damaged`, or reject the file.",
    )


class Audio(Section):
    """The sound track of each video as a WAV file."""

    enabled: bool = Field(True, description="Extract audio.")
    sample_rate: int = Field(16000, ge=8000, le=192000, description="Samples per second.")
    channels: Literal[1, 2] = Field(1, description="1 mixes down to mono, 2 gives stereo.")
    track: Literal["default"] | Annotated[int, Field(ge=0)] | LanguageCode = Field(
        "default",
        description="Which audio track: `default` takes the one flagged default, else the "
        "first; a number counts the audio tracks from 0; a code such as `eng` or `deu` takes "
        "the track that the file labels so.",
    )
    other_tracks: bool = Field(
        False,
        description="Keep the other tracks too, as `audio.<number>.wav`; each gets a transcript.",
    )


class Transcript(Section):
    """Speech to text."""

    enabled: bool = Field(True, description="Transcribe the audio.")
    backend: Literal["openai-whisper", "faster-whisper"] = Field(
        "openai-whisper", description="Which implementation runs Whisper."
    )
    whisper_model: str = Field(
        "base",
        min_length=1,
        description="A size (tiny, base, … turbo), a path, or `offline-tiny.en`: weights that "
        "come with the installation.",
    )
    language: str | None = Field(
        None, description="Language code such as `en`; without it the language is detected."
    )
    initial_prompt: str | None = Field(
        None, description="Text that the model takes as said before: names, spelling, style."
    )
    word_timestamps: bool = Field(False, description="Give every word its start and end.")
    beam_size: int = Field(5, ge=1, description="Beams of the search; 1 is greedy.")
    temperatures: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.0,),
        min_length=1,
        description="Tried in turn while a text repeats itself or is improbable; above 0 the text "
        "is drawn at random, and faster-whisper draws another one each time.",
    )
    silence_db: float = Field(
        -60.0, le=0, description="Audio whose peak stays below this, in dBFS, is silent."
    )
    vad: bool = Field(True, description="Transcribe only where a voice is detected.")
    no_speech_threshold: float = Field(
        0.6, ge=0, le=1, description="Drop a segment when no-speech is likelier than this."
    )
    log_prob_threshold: float = Field(
        -1.0,
        le=0,
        description="Drop a segment whose tokens have a mean log-probability below this.",
    )
    compression_ratio_threshold: Positive = Field(
        2.4, description="Drop a segment whose text repeats itself more than this."
    )
    max_repeats: int = Field(
        2, ge=1, description="Drop segments of one text that come more often than this in a row."
    )
    compute_type: Literal["auto", "int8", "float16", "float32"] = Field(
        "auto",
        description="Numbers that the model works with; `auto`: float16 on a GPU, on a CPU int8 "
        "(faster-whisper) or float32 (openai-whisper).",
    )
    batch_size: int = Field(
        8,
        ge=1,
        description="Stretches of speech decoded at once, from several videos (faster-whisper "
        "with vad; else one by one).",
        json_schema_extra=Runtime,
    )
    device: Literal["cuda", "auto", "cpu"] = Field(
        "cuda",
        description="`cuda` stops where there is no GPU; `auto` takes one where there is one.",
        json_schema_extra=Runtime,
    )
    gpu_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of a GPU that a job leases; 0.5 lets two jobs share one.",
        json_schema_extra=Runtime,
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Transcript":
        if self.backend == "openai-whisper" and self.compute_type == "int8":
            raise ConfigError("compute_type: expected float16 or float32 with openai-whisper")
        if self.language is not None and self.language not in WHISPER_LANGUAGES:
            known = ", ".join(sorted(WHISPER_LANGUAGES))
            raise ConfigError(f"language: expected one of {known} (got {self.language!r})")
        return self


class Caption(Section):
    """A caption for each video."""

    enabled: bool = Field(True, description="Caption the frames.")
    captioner_backend: Literal["imagenet-tags", "blip"] = Field(
        "blip",
        description="`imagenet-tags` names objects offline and is no caption model; `blip` "
        "writes sentences.",
    )
    model_name: str | None = Field(
        None, description="Hub id or local folder; without it the backend's documented default."
    )
    num_frames: int = Field(
        4, ge=1, description="Frames shown to a backend that can take several, evenly spread."
    )
    threshold: float = Field(
        0.3, ge=0, le=1, description="Least mean probability of a tag (imagenet-tags)."
    )
    max_new_tokens: int = Field(40, ge=1, description="Longest caption, in tokens.")
    num_beams: int = Field(3, ge=1, description="Beams of the search; 1 is greedy.")
    batch_size: int = Field(
        16, ge=1, description="Videos captioned at once.", json_schema_extra=Runtime
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto` takes a GPU where there is one.", json_schema_extra=Runtime
    )
