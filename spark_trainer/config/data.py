"""The sections of the steps that make data, in the order of the pipeline."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from spark_trainer.config.reading import over, validated
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
Device = Literal["cuda", "auto", "cpu"]
Share = Annotated[float, Field(gt=0, le=1)]

DEVICE = "`cuda` stops where there is no GPU; `auto` then takes the CPU; `cpu` leaves GPUs alone."
SHARE = "Share of a GPU that a job takes; at 0.5 two jobs run on one."


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
    beam_size: int | None = Field(
        None,
        ge=1,
        description="Beams of the search, 1 is greedy; without it what the package does: 5 "
        "(faster-whisper) or 1 (openai-whisper, whose beams cost five times the time).",
    )
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
    device: Device = Field("cuda", description=DEVICE, json_schema_extra=Runtime)
    gpu_fraction: Share = Field(1.0, description=SHARE, json_schema_extra=Runtime)

    @property
    def beams(self) -> int:
        """`beam_size`, else the backend's own."""
        return self.beam_size or (5 if self.backend == "faster-whisper" else 1)

    @model_validator(mode="after")
    def _fits_together(self) -> "Transcript":
        if self.backend == "openai-whisper" and self.compute_type == "int8":
            raise ConfigError("compute_type: expected float16 or float32 with openai-whisper")
        if self.language is not None and self.language not in WHISPER_LANGUAGES:
            known = ", ".join(sorted(WHISPER_LANGUAGES))
            raise ConfigError(f"language: expected one of {known} (got {self.language!r})")
        return self


Backend = Literal["imagenet-tags", "blip", "blip2", "internvl", "qwen2-vl", "florence2"]


class _Captioning(Section):
    """How a captioner is asked; what a backend has no use for is left alone by it."""

    model_name: str | None = Field(
        None, description="Hub id or local folder; without it the backend's documented default."
    )
    revision: str = Field(
        "main", description="Branch, tag or commit of a hub id; only a commit never changes."
    )
    prompt: str | None = Field(
        None, description="What the model is asked; without it the backend's own words."
    )
    num_frames: int = Field(
        8, ge=1, description="Frames of a video, for a backend that sees several at once."
    )
    choose: Literal["even", "ends", "start"] = Field(
        "even",
        description="Which frames: `even` takes the middle of each equal share of the video, "
        "`ends` spreads them from the first to the last, `start` takes the first ones. A backend "
        "that sees one image takes the middle one of them.",
    )
    max_side_px: int | None = Field(
        None, ge=16, description="Shrink frames so that the longer side is at most this."
    )
    max_new_tokens: int = Field(128, ge=1, description="Longest caption, in tokens.")
    num_beams: int = Field(1, ge=1, description="Beams of the search; 1 is greedy.")
    repetition_penalty: float | None = Field(
        None, gt=0, description="Above 1 repeats less; without it the checkpoint's own."
    )
    no_repeat_ngram_size: int = Field(
        0, ge=0, description="No run of so many tokens appears twice; 0 allows it."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Of the weights; `auto` is bfloat16 on a GPU, float32 on a CPU."
    )
    quantization: Literal["none", "8bit", "4bit"] = Field(
        "none", description="Weights in fewer bits, by bitsandbytes."
    )
    threshold: float = Field(
        0.3, ge=0, le=1, description="Least mean probability of a tag (imagenet-tags)."
    )
    engine: Literal["transformers", "server"] = Field(
        "transformers",
        description="`server` asks a server that speaks OpenAI's protocol, such as vLLM's "
        "(qwen2-vl, internvl).",
    )
    server_url: str = Field(
        "http://localhost:8000/v1", description="Where that server is.", json_schema_extra=Runtime
    )
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="Videos captioned at once; `auto` grows it while that is faster. Halved when "
        "memory runs out.",
        json_schema_extra=Runtime,
    )
    num_workers: int = Field(
        2,
        ge=0,
        description="Processes that read frames ahead of the model.",
        json_schema_extra=Runtime,
    )
    device: Device = Field("cuda", description=DEVICE, json_schema_extra=Runtime)
    gpu_fraction: Share = Field(1.0, description=SHARE, json_schema_extra=Runtime)


# Keys that only one kind of backend reads, so that to the other they decide nothing.
TAGGER_KEYS = {"threshold"}
NETWORK_KEYS = {
    *("model_name", "revision", "prompt", "max_new_tokens", "num_beams", "repetition_penalty"),
    *("no_repeat_ngram_size", "dtype", "quantization", "engine"),
}


class Captioning(_Captioning):
    """One captioner, as a job gets it."""

    captioner_backend: Backend

    def results(self) -> dict[str, Any]:
        """The settings that decide this backend's captions."""
        unread = NETWORK_KEYS if self.captioner_backend == "imagenet-tags" else TAGGER_KEYS
        return {key: value for key, value in super().results().items() if key not in unread}

    @model_validator(mode="after")
    def _is_served(self) -> "Captioning":
        if self.engine == "server" and self.captioner_backend not in ("qwen2-vl", "internvl"):
            raise ConfigError(
                f"engine: {self.captioner_backend} has no server; expected transformers"
            )
        return self


class Caption(_Captioning):
    """Captions of each video, by one captioner or by several."""

    enabled: bool = Field(True, description="Caption the frames.")
    captioner_backend: Backend | Annotated[tuple[Backend, ...], Field(min_length=1)] = Field(
        "blip",
        description="One of them or a list; each then captions every video. `imagenet-tags` names "
        "objects offline and is no caption model.",
    )
    backends: dict[Backend, dict[str, Any]] = Field(
        default_factory=dict,
        description="Keys of this section that differ for a backend of the list, by its name.",
    )

    @model_validator(mode="after")
    def _check_backends(self) -> "Caption":
        if unused := [name for name in self.backends if name not in self.names]:
            raise ConfigError(f"backends.{unused[0]}: expected in captioner_backend as well")
        if len(set(self.names)) < len(self.names):
            raise ConfigError("captioner_backend: expected each backend once")
        self.resolved()
        return self

    @property
    def names(self) -> tuple[Backend, ...]:
        """The backends, in the order given."""
        chosen = self.captioner_backend
        return chosen if isinstance(chosen, tuple) else (chosen,)

    def resolved(self) -> dict[Backend, Captioning]:
        """Every captioner by its backend, its own keys laid over the shared ones."""
        shared = self.model_dump(include=set(_Captioning.model_fields), exclude_unset=True)
        found = {}
        for name in self.names:
            own = self.backends.get(name, {})
            where = f"backends.{name}" if own else ""
            keys = over(shared, own) | {"captioner_backend": name}
            found[name] = validated(Captioning, keys, where)
        return found


class Select(Section):
    """Which caption goes to the manifest, where several captioners wrote one."""

    captioners: tuple[Backend, ...] = Field(
        (), description="Among whose captions; without it all of caption.captioner_backend."
    )
    by: Literal["first", "longest", "agreement", "score"] = Field(
        "first",
        description="`first` takes the first captioner that has something to say, `longest` the "
        "most words, `agreement` the caption most like the others (mean ROUGE-L), `score` the one "
        "that fits the frames best (CLIPScore).",
    )
    model_name: str = Field(
        "openai/clip-vit-base-patch32", description="CLIP checkpoint, for `score`."
    )
    revision: str = Field("main", description="Branch, tag or commit of it.")
    device: Device = Field("cuda", description=DEVICE, json_schema_extra=Runtime)
    gpu_fraction: Share = Field(1.0, description=SHARE, json_schema_extra=Runtime)


class Pose(Section):
    """Skeleton, face, outline and background of the person in each video, for Wan2.2-Animate."""

    enabled: bool = Field(False, description="Prepare these.")
    detector: Literal["mediapipe"] = Field(
        "mediapipe", description="What finds the person; `mediapipe` works offline on a CPU."
    )
    frame_rate: Positive = Field(
        16.0, description="Frames per second; 16 is what Wan2.2-Animate is sampled at."
    )
    max_seconds: Positive | None = Field(
        60.0, description="Prepare only so much of the beginning of a video; null prepares it all."
    )
    max_side_px: int | None = Field(
        1280, ge=16, description="Shrink so that the longer side is at most this; never enlarge."
    )
    min_person_px: int = Field(
        96,
        ge=1,
        description="A person whose outline is shorter and narrower than this does not count: of "
        "someone so small the joints are guessed.",
    )
    min_share: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Least share of the frames that has to show a person; below it a video counts "
        "as one without.",
    )
    min_confidence: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Joints below this are not drawn, nor the limbs that end there.",
    )
    face_scale: float = Field(
        1.3, ge=1, description="Area of the face's crop, in boxes around the face's keypoints."
    )
    face_smoothing_s: float = Field(
        0.25, ge=0, description="Seconds over which the crop's place is averaged, to each side."
    )
    face_gap_s: float = Field(
        0.25,
        ge=0,
        description="A face that is lost for at most this long is cropped between where it was and "
        "where it is next; for longer the crop is black.",
    )
    mask_threshold: Share = Field(
        0.5, description="Pixels that are the person's at least this surely belong to the outline."
    )
    mask_growth_px: int = Field(
        9,
        ge=0,
        description="Grow the outline to every side, so that no rim stays in the background.",
    )
