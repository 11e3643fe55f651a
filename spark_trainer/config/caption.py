"""Captions, by one captioner or several."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from spark_trainer.config.labels import GIVEN
from spark_trainer.config.reading import over, validated
from spark_trainer.config.section import (
    DEVICE,
    SHARE,
    ConfigError,
    Device,
    Positive,
    Runtime,
    Section,
    Share,
    StepSection,
)

BACKENDS = Path(__file__).parent.parent / "captioners/backends"
if TYPE_CHECKING:
    Backend = str
else:
    Backend = Literal[tuple(sorted(p.stem.replace("_", "-") for p in BACKENDS.glob("[!_]*.py")))]
SERVED = ("qwen2-vl", "internvl")  # backends whose models a server or vLLM can run
WITH_VLLM = {"num_beams": 1, "no_repeat_ngram_size": 0, "quantization": "none", "device": "cuda"}


class _Captioning(Section):
    """The settings of a captioner; each backend ignores those that it has no use for."""

    model_name: str | None = Field(
        None, description="Hub id or local folder; without it the backend's documented default."
    )
    revision: str = Field(
        "main", description="Branch, tag or commit of a hub id; only a commit never changes."
    )
    prompt: str | None = Field(
        None, description="The prompt for the model; without it the backend's own."
    )
    num_frames: int = Field(
        8, ge=1, description="Frames shown of a video, for a backend that takes several at once."
    )
    choose: Literal["even", "ends", "start"] = Field(
        "even",
        description="Which frames: `even` takes the middle of each of equal parts of the video, "
        "`ends` spreads them evenly from the first to the last, `start` takes the first ones. A "
        "backend that takes one image gets the middle one of them.",
    )
    max_side_px: int | None = Field(
        None, ge=16, description="Shrink frames so that the longer side is at most this."
    )
    max_new_tokens: int = Field(128, ge=1, description="Longest caption, in tokens.")
    max_characters: int = Field(
        100_000,
        ge=1,
        description="Longest caption in characters; a longer one is discarded.",
    )
    num_beams: int = Field(1, ge=1, description="Beams of the search; 1 is greedy.")
    repetition_penalty: float | None = Field(
        None, gt=0, description="Values above 1 repeat less; without it the checkpoint's own."
    )
    no_repeat_ngram_size: int = Field(
        0, ge=0, description="No sequence of this many tokens appears twice; 0 sets no limit."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Type of the weights; `auto`: bfloat16 on a GPU, float32 on a CPU."
    )
    quantization: Literal["none", "8bit", "4bit"] = Field(
        "none", description="Weights in fewer bits, by bitsandbytes."
    )
    threshold: float = Field(
        0.3, ge=0, le=1, description="Lowest mean probability of a tag (imagenet-tags)."
    )
    engine: Literal["transformers", "vllm", "server"] = Field(
        "transformers",
        description="`transformers` and `vllm` run the model in the job, vLLM on a GPU alone; "
        "`server` asks a server with OpenAI's protocol, such as vLLM's (vllm and server: qwen2-vl, "
        "internvl).",
    )
    server_url: str = Field(
        "http://localhost:8000/v1",
        description="Address of the server (engine: server).",
        json_schema_extra=Runtime,
    )
    server_input: Literal["images", "video"] = Field(
        "images",
        description="How the server gets frames: as `images`, or as a `video`, which takes half "
        "the tokens and which vLLM accepts (engine: server).",
    )
    server_timeout_s: Positive = Field(
        600.0,
        description="Longest time of a request to the server (engine: server).",
        json_schema_extra=Runtime,
    )
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="Videos captioned at once; `auto` raises it while that is faster. It is halved "
        "when memory runs out. For a server, requests at once; `auto`: 64.",
        json_schema_extra=Runtime,
    )
    num_workers: int = Field(
        2,
        ge=0,
        description="Processes that read frames before the model needs them.",
        json_schema_extra=Runtime,
    )
    device: Device = Field("cuda", description=DEVICE, json_schema_extra=Runtime)
    gpu_fraction: Share = Field(1.0, description=SHARE, json_schema_extra=Runtime)


# Keys that only some backends read -> those; they enter no other's fingerprint.
READ_BY = {"threshold": ("imagenet-tags",)}
# Keys that backends with a checkpoint read.
CHECKPOINT_KEYS = {
    *("model_name", "revision", "prompt", "max_new_tokens", "num_beams", "repetition_penalty"),
    *("no_repeat_ngram_size", "dtype", "quantization", "engine"),
}
WITHOUT_CHECKPOINT = ("imagenet-tags", GIVEN)
OF_FRAMES = {"num_frames", "choose", "max_side_px"}  # what a given caption does not depend on


class Captioning(_Captioning):
    """The settings of one captioner, as a job gets them."""

    captioner_backend: Backend

    def results(self) -> dict[str, Any]:
        """Return the settings that this backend's captions depend on."""
        unread = {key for key, readers in READ_BY.items() if self.captioner_backend not in readers}
        if self.captioner_backend in WITHOUT_CHECKPOINT:
            unread |= CHECKPOINT_KEYS
        if self.captioner_backend == GIVEN:
            unread |= OF_FRAMES
        if self.engine != "server" or self.server_input == "images":
            unread |= {"server_input"}  # a key that came later: captions made before stay
        return {key: value for key, value in super().results().items() if key not in unread}

    @model_validator(mode="after")
    def _is_served(self) -> "Captioning":
        if self.engine == "server" and self.captioner_backend not in SERVED:
            raise ConfigError(
                f"engine: {self.captioner_backend} has no server; expected transformers"
            )
        return self

    @model_validator(mode="after")
    def _runs_in_vllm(self) -> "Captioning":
        if self.engine != "vllm":
            return self
        if self.captioner_backend not in SERVED:
            raise ConfigError(
                f"engine: {self.captioner_backend} doesn't run in vLLM; expected transformers"
            )
        for key, expected in WITH_VLLM.items():
            if (given := getattr(self, key)) != expected:
                raise ConfigError(f"{key}: expected {expected} with engine: vllm (got {given})")
        return self


class Caption(_Captioning, StepSection):
    """Captions of each video, by one captioner or by several."""

    UPSTREAM: ClassVar[tuple[str, ...]] = ("frames",)
    CORRECTED: ClassVar[tuple[str, ...]] = ("captions",)

    enabled: bool = Field(True, description="Caption the frames.")
    captioner_backend: Backend | Annotated[tuple[Backend, ...], Field(min_length=1)] = Field(
        "blip",
        description="A captioner, or a list of them: each then captions every video. "
        "`imagenet-tags` names objects, offline; it is no caption model. `sidecar` takes the "
        "captions that `labels` names, and leaves the other videos to the others.",
    )
    also_labelled: bool = Field(
        False,
        description="Let models caption the videos too whose caption is given, to compare both.",
        json_schema_extra=Runtime,
    )
    backends: dict[Backend, dict[str, Any]] = Field(
        default_factory=dict,
        description="Keys of this section with other values for one backend, by its name.",
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
        """Return the backends, in the given order."""
        chosen = self.captioner_backend
        return chosen if isinstance(chosen, tuple) else (chosen,)

    def resolved(self) -> dict[Backend, Captioning]:
        """Return each backend's settings: its own keys laid over the shared ones."""
        shared = self.model_dump(include=set(_Captioning.model_fields), exclude_unset=True)
        found = {}
        for name in self.names:
            own = self.backends.get(name, {})
            where = f"backends.{name}" if own else ""
            keys = over(shared, own) | {"captioner_backend": name}
            if name == GIVEN:  # what models share is none of its own
                keys = {key: value for key, value in keys.items() if key not in CHECKPOINT_KEYS}
            found[name] = validated(Captioning, keys, where)
        return found
