"""The configuration: one pydantic section per step, in the order of the pipeline.

Nothing heavy is imported here: every rule, job and command reads this module first.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.config import JsonDict

# Where each documented flat key lives once the configuration is read.
FLAT_KEYS = {
    "frame_rate": "frames",
    "whisper_model": "transcript",
    "captioner_backend": "caption",
}

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Runtime: JsonDict = {
    "runtime": True
}  # a field that changes how fast a result comes, never the result


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the key and what was expected."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused and values can't change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    def results(self) -> dict[str, Any]:
        """The settings that decide the bytes of a result: everything but the runtime fields."""
        runtime = {
            name
            for name, field in type(self).model_fields.items()
            if field.json_schema_extra == Runtime
        }
        return self.model_dump(mode="json", exclude=runtime)


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
    track: Literal["default"] | Annotated[int, Field(ge=0)] = Field(
        "default",
        description="Which audio track: `default` takes the one flagged default, else the "
        "first; a number counts the audio tracks from 0.",
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
    silence_db: float = Field(
        -60.0, le=0, description="Audio whose peak stays below this, in dBFS, is silent."
    )
    vad: bool = Field(True, description="Transcribe only where a voice is detected.")
    no_speech_threshold: float = Field(
        0.6, ge=0, le=1, description="Drop a segment when no-speech is likelier than this."
    )
    compression_ratio_threshold: Positive = Field(
        2.4, description="Drop a segment whose text repeats itself more than this."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto` takes a GPU where there is one.", json_schema_extra=Runtime
    )


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


class Split(Section):
    """Which videos are held out; decided by content, so adding videos moves none."""

    validation: Fraction = Field(0.1, description="Share of videos for the held-out loss.")
    test: Fraction = Field(0.0, description="Share of videos that training never touches.")
    seed: int = Field(0, description="Another seed, another split.")

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ConfigError("validation, test: expected a sum below 1, to have some to train on")
        return self


class Run(Section):
    """One training run."""

    model_name: str = Field(
        "Salesforce/blip-image-captioning-base", description="Hub id or local folder."
    )
    model_type: Literal["vision_language", "diffusion", "asr", "rft"] = Field(
        "vision_language",
        description="Kind of training; this version trains vision_language.",
    )
    from_scratch: bool = Field(
        False, description="Start from random weights of the model's configuration."
    )
    manifest_path: str | None = Field(
        None, description="Train on this manifest; without it, on the one this workflow builds."
    )
    output_dir: str = Field("runs", description="Where run folders go.", json_schema_extra=Runtime)
    split: Split = Field(default_factory=Split)
    frames_per_video: int = Field(
        8, ge=1, description="Frames of one video used as samples, evenly spread."
    )
    batch_size: int = Field(8, ge=1, description="Samples per step and process.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Batches per weight update.")
    learning_rate: Positive = Field(5e-5, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of weight matrices.")
    warmup_steps: int = Field(0, ge=0, description="Updates from 0 to the peak learning rate.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning rate after the warm-up."
    )
    max_grad_norm: Positive = Field(1.0, description="Gradients are clipped to this norm.")
    num_epochs: int = Field(3, ge=1, description="Passes over the training videos.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many updates instead.")
    max_skipped: float = Field(
        0.01, ge=0, le=1, description="Stop when a larger share of samples can't be used."
    )
    seed: int = Field(0, description="Seed of weights, order and dropout.")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(
        "no", description="Arithmetic of the forward pass."
    )
    eval_steps: int = Field(100, ge=1, description="Updates between held-out losses and samples.")
    checkpoint_steps: int = Field(500, ge=1, description="Updates between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints kept.")
    num_samples: int = Field(4, ge=0, description="Held-out clips captioned at each evaluation.")
    num_workers: int = Field(
        2, ge=0, description="Processes that decode ahead.", json_schema_extra=Runtime
    )
    gpus: int = Field(1, ge=0, description="GPUs to ask Snakemake for.", json_schema_extra=Runtime)
    min_gpus: int = Field(
        1, ge=0, description="Stop when fewer GPUs are granted.", json_schema_extra=Runtime
    )
    allow_cpu: bool = Field(
        False, description="Train on the CPU where there is no GPU, and say so."
    )
    use_accelerate: bool = Field(
        True, description="Start through `accelerate launch`; false runs one bare process."
    )
    use_deepspeed: bool = Field(False, description="DeepSpeed ZeRO; not in this version.")
    deepspeed_config: str | None = Field(None, description="DeepSpeed's JSON file.")

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _unquoted_no(cls, value: Any) -> Any:
        """YAML reads an unquoted `no` as false."""
        return "no" if value is False else value

    @model_validator(mode="after")
    def _refuse_what_has_not_landed(self) -> "Run":
        if self.model_type != "vision_language":
            raise ConfigError(
                f"model_type: {self.model_type} can't be trained by this version; "
                "expected vision_language"
            )
        if self.use_deepspeed:
            raise ConfigError(
                "use_deepspeed: this version trains without DeepSpeed; expected false"
            )
        return self


class Train(Run):
    """Training: the keys of one run, or shared defaults with several named `runs`."""

    runs: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], dict[str, Any]] = (
        Field(
            default_factory=dict,
            description="Runs by name; each lists only what differs from the keys above.",
        )
    )

    @model_validator(mode="after")
    def _check_runs(self) -> "Train":
        self.resolved()
        return self

    def resolved(self) -> dict[str, Run]:
        """Every run by name, its own keys laid over the shared ones."""
        shared = self.model_dump(exclude={"runs"}, exclude_unset=True)
        if not self.runs:
            return {"default": Run.model_validate(shared)}
        return {
            name: _validated(Run, _over(shared, own), f"runs.{name}")
            for name, own in self.runs.items()
        }


class Config(Section):
    """Everything a user can set."""

    video_dir: str | tuple[str, ...] = Field(
        "videos", description="Folder, or list of folders, searched for videos."
    )
    output_dir: str = Field("data/processed", description="Where everything derived goes.")
    deterministic_layout: bool = Field(
        True, description="Name folders by content hash; false names them after the source file."
    )
    index: Index = Field(default_factory=Index)
    frames: Frames = Field(default_factory=Frames)
    audio: Audio = Field(default_factory=Audio)
    transcript: Transcript = Field(default_factory=Transcript)
    caption: Caption = Field(default_factory=Caption)
    train: Train | None = Field(None, description="Absent: `train` has nothing to do.")

    @model_validator(mode="before")
    @classmethod
    def _move_flat_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for key, section in FLAT_KEYS.items():
            if key not in data:
                continue
            value, inner = data.pop(key), data.get(section, {})
            if not isinstance(inner, dict):
                continue  # refused as a section, with its own message
            if inner.get(key, value) != value:
                raise ConfigError(
                    f"{key}: {value!r} here, but {inner[key]!r} in {section}.{key}; "
                    "expected one of the two"
                )
            data[section] = inner | {key: value}
        return data

    @model_validator(mode="after")
    def _needs(self) -> "Config":
        if self.transcript.enabled and not self.audio.enabled:
            raise ConfigError("transcript.enabled: expected audio.enabled to be true as well")
        if self.caption.enabled and not self.frames.enabled:
            raise ConfigError("caption.enabled: expected frames.enabled to be true as well")
        if not (self.frames.enabled or self.audio.enabled):
            raise ConfigError("frames.enabled, audio.enabled: expected at least one to be true")
        return self

    @property
    def video_dirs(self) -> tuple[Path, ...]:
        """The searched folders, in the order given."""
        folders = (self.video_dir,) if isinstance(self.video_dir, str) else self.video_dir
        return tuple(Path(folder) for folder in folders)

    @property
    def runs(self) -> dict[str, Run]:
        """The training runs by name; empty without a `train` section."""
        return self.train.resolved() if self.train else {}


Model = TypeVar("Model", bound=Section)


def _validated(model: type[Model], data: Any, prefix: str = "") -> Model:
    """Validate `data`, turning pydantic's report into one line per wrong key.

    Raises:
        ConfigError: lines of `key.path: what was expected`; a validator's own lines, which name
            keys relative to their section, get the section's path put before them.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines: list[str] = []
        expected: dict[str, list[str]] = {}
        given: dict[str, Any] = {}
        for problem in error.errors():
            path = _path(model, problem["loc"])
            if len(path) == 2 and FLAT_KEYS.get(path[1]) == path[0] and path[1] in data:
                path = path[1:]
            key = ".".join(filter(None, [prefix, *path]))
            if problem["type"] == "value_error":
                own = str(problem["ctx"]["error"]).splitlines()
                lines += [f"{key}.{line}" if key else line for line in own]
            elif problem["type"] == "extra_forbidden":
                known = ", ".join(sorted(_fields_at(model, problem["loc"][:-1])))
                lines.append(f"{key}: unknown key; expected one of: {known}")
            else:
                expected.setdefault(key, []).append(_expected(problem))
                given[key] = problem["input"]
        for key, texts in expected.items():
            if not any(other.startswith(f"{key}.") for other in expected):
                wanted = " or ".join(dict.fromkeys(texts))
                lines.append(f"{key or 'config'}: expected {wanted} (got {given[key]!r})")
        raise ConfigError("\n".join(lines)) from None


# pydantic's name of a problem -> what was expected, where its own words speak of Python.
EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a section of keys",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "invalid_key": "text as a key",
    "model_type": "a section of keys",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', a letter or digit first",
    "string_type": "text",
    "tuple_type": "a list",
}


def _expected(problem: Any) -> str:
    """What a value should have been, in a user's words."""
    own = str(problem["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return EXPECTED.get(problem["type"], own)


def _path(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys of a location, without the marks that pydantic adds for a union's alternatives."""
    path: list[str] = []
    inside: type[BaseModel] | None = model
    for part in location:
        if inside is not None:
            path.append(str(part))
            field = inside.model_fields.get(str(part))
            inside = _section_of(field.annotation) if field else None
        elif isinstance(part, int) or path[-1] == "runs":
            path.append(str(part))
    return path


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, if it holds one."""
    for option in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        inner = _section_of(model.model_fields[str(part)].annotation)
        assert inner is not None
        model = inner
    flat = list(FLAT_KEYS) if model is Config else []
    return [*model.model_fields, *flat]


def _over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` laid over `base`, section by section."""
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _over(old, value) if both else value  # type: ignore[arg-type]
    return merged


def load(data: dict[str, Any]) -> Config:
    """Validate a configuration that is already read.

    Raises:
        ConfigError: one line per wrong key, with its path and what was expected.
    """
    return _validated(Config, data)


def read(path: Path) -> Config:
    """Read and validate a YAML file.

    Raises:
        ConfigError: the file is missing, is no YAML mapping, or holds a wrong key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(data or {}, dict):
        raise ConfigError(f"{path}: expected a mapping of keys")
    try:
        return load(data or {})
    except ConfigError as error:
        raise ConfigError(f"{path}:\n{error}") from None


def shard_bits(num_videos: int, shard_size: int) -> int:
    """Leading hash bits that name a shard, so that shards hold about `shard_size` videos."""
    return max(0, math.ceil(math.log2(max(1, num_videos) / shard_size)))
