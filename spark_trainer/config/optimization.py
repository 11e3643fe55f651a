"""The settings of learning: batches, optimizer, schedule, precision."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from spark_trainer.config.section import Fraction, Positive, Runtime, Section

LARGEST_BATCH = 1 << 16
LARGEST_UPDATE = 1 << 20  # samples; a typing error beyond would never reach its first update

Recomputed = bool | Annotated[int, Field(ge=1)] | Literal["selective", "attention"]
# From the one that takes most memory to the one that takes least; what is computed grows.
RECOMPUTED: tuple[Recomputed, ...] = (False, 4, 2, "selective", "attention", True)


class Optimization(Section):
    """The batch, the optimizer, and the number of updates."""

    batch_size: int = Field(
        8,
        ge=1,
        le=LARGEST_BATCH,
        description="Samples that a process takes at once; on one GPU, a batch.",
        json_schema_extra=Runtime,
    )
    gradient_accumulation_steps: int = Field(
        1,
        ge=1,
        le=LARGEST_BATCH,
        description="Batches of each process per weight update.",
        json_schema_extra=Runtime,
    )
    global_batch_size: int | None = Field(
        None,
        ge=1,
        le=LARGEST_UPDATE,
        description="Samples per weight update, whatever the number of GPUs; without it "
        "batch_size × gradient_accumulation_steps × gpus × nodes.",
    )
    packing: bool = Field(
        False,
        description="Put the samples of a batch into one row instead of padding them; for families "
        "whose language model is a decoder.",
    )
    packing_length: int | None = Field(
        None,
        ge=16,
        description="Longest packed row in tokens: the samples of a batch go into as few rows as "
        "hold them, one forward pass each; without it into one row, however long.",
        json_schema_extra=Runtime,
    )
    bucketing: bool | None = Field(
        None,
        description="Form batches of samples of similar length; without it true, but for "
        "`model_type: rft`, which takes its prompts at random.",
    )
    max_length: int = Field(
        8192,
        ge=16,
        description="Longest sample in tokens, images included; the answer of a longer one is cut.",
    )

    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"] = Field(
        "adamw", description="AdamW; the last three are from bitsandbytes, paged ones need a GPU."
    )
    learning_rate: Positive = Field(5e-5, description="Peak learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay; biases and norms have none.")
    warmup_steps: int = Field(
        0, ge=0, description="Updates in which the learning rate rises from 0 to its peak."
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning rate after the warm-up."
    )
    max_grad_norm: Positive = Field(1.0, description="Gradients are clipped to this norm.")
    num_epochs: int = Field(3, ge=1, description="Passes over the training samples.")
    max_steps: int | None = Field(
        None, ge=1, description="Number of updates, instead of `num_epochs`."
    )
    continue_from: str | None = Field(
        None,
        min_length=1,
        description="Start from the newest checkpoint of another run, given by its name, its run "
        "id, both, or its folder. All settings that decide results must be the same, except "
        "num_epochs and max_steps.",
        json_schema_extra=Runtime,  # the run id counts the other run's folder instead
    )
    max_skipped: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Stop if a larger share of the samples can't be used.",
        json_schema_extra=Runtime,
    )
    max_left_out: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Stop if a larger share of the videos lacks what `text` or `clip` needs.",
        json_schema_extra=Runtime,
    )
    ema_decay: Fraction | None = Field(
        None,
        description="Decay of a moving average of the weights, which is then evaluated and saved.",
    )
    early_stopping: int | None = Field(
        None, ge=1, description="Stop after this many evaluations without a better held-out loss."
    )
    final: Literal["last", "best"] = Field(
        "last",
        description="Weights for `final/`: the last, or those with the lowest held-out loss.",
    )
    seed: int = Field(0, description="Seed of initial weights, order of samples, and dropout.")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(
        "no", description="Precision of the forward pass; `no` is float32."
    )
    encode: Literal["ahead", "each_step"] = Field(
        "ahead",
        description="When frozen encoders encode a clip for diffusion, or a window of sound for a "
        "speech model: once, in a step of the workflow, or each time that training uses it.",
        json_schema_extra=Runtime,
    )
    encode_vision: bool = Field(
        False,
        description="Let a model that writes about videos see each clip once, in a step of the "
        "workflow: what its frozen vision tower and projector make of it is kept, and training "
        "opens no frame. Needs the same frames in every epoch, or `clip.variants`.",
        json_schema_extra=Runtime,
    )
    guidance_dropout: Fraction = Field(
        0.1,
        description="Share of clips that diffusion learns without their conditions, for "
        "classifier-free guidance.",
    )
    gradient_checkpointing: Recomputed | Literal["auto"] = Field(
        False,
        description="What is computed a second time in the backward pass, to save memory; same "
        "gradients. `true` takes every layer, n every n-th one, `attention` all but self-"
        "attention, `selective` all but that and matrix products no wider than what goes in; "
        "`auto` the first of 4, 2, `selective`, `attention` and `true` that fits into a GPU.",
    )
    compile: bool | Literal["layers"] = Field(
        False,
        description="Compile the model with torch.compile: as a whole, which it does anew for each "
        "shape of a batch, or its repeated `layers` one by one, once for all shapes.",
    )

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _unquoted_no(cls, value: Any) -> Any:
        """Accept an unquoted `no`, which YAML reads as false."""
        return "no" if value is False else value

    @field_validator("gradient_checkpointing")
    @classmethod
    def _every_layer(cls, value: Recomputed | Literal["auto"]) -> Recomputed | Literal["auto"]:
        """Write every first layer as `true`, which names the runs of earlier versions."""
        return True if value == 1 else value
