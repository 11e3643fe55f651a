"""How a run learns: batches, optimizer, schedule, precision."""

from typing import Any, Literal

from pydantic import Field, field_validator

from spark_trainer.config.section import Fraction, Positive, Runtime, Section


class Optimization(Section):
    """What an update is made of, and how many there are."""

    batch_size: int = Field(
        8, ge=1, description="Samples that a process takes at once.", json_schema_extra=Runtime
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="Batches per weight update.", json_schema_extra=Runtime
    )
    global_batch_size: int | None = Field(
        None,
        ge=1,
        description="Samples per weight update, whatever the number of GPUs; without it "
        "batch_size × gradient_accumulation_steps × gpus × nodes.",
    )
    packing: bool = Field(
        False,
        description="Put the samples of a batch one after the other instead of padding them; "
        "for the families whose language model is a decoder.",
    )
    bucketing: bool = Field(True, description="Batch samples of similar length.")
    max_length: int = Field(
        8192,
        ge=16,
        description="Longest sample in tokens, images included; a longer text is cut and counted.",
    )

    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"] = Field(
        "adamw", description="AdamW; the last three are bitsandbytes', the paged ones need a GPU."
    )
    learning_rate: Positive = Field(5e-5, description="Peak learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of weight matrices.")
    warmup_steps: int = Field(0, ge=0, description="Updates from 0 to the peak learning rate.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Learning rate after the warm-up."
    )
    max_grad_norm: Positive = Field(1.0, description="Gradients are clipped to this norm.")
    num_epochs: int = Field(3, ge=1, description="Passes over the training videos.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many updates instead.")
    continue_from: str | None = Field(
        None,
        description="Go on from the newest checkpoint of another run, instead of from the start: "
        "its name, its seal, both, or its folder. All that decides results must be the same but "
        "num_epochs and max_steps.",
        json_schema_extra=Runtime,  # what it goes on from is sealed by the order
    )
    max_skipped: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Stop when a larger share of samples can't be used.",
        json_schema_extra=Runtime,
    )
    max_left_out: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Stop when a larger share of videos lacks what `text` asks for.",
        json_schema_extra=Runtime,
    )
    ema_decay: Fraction | None = Field(
        None, description="Evaluate and save an exponential moving average of the weights."
    )
    early_stopping: int | None = Field(
        None, ge=1, description="Stop after this many evaluations without a better held-out loss."
    )
    final: Literal["last", "best"] = Field(
        "last", description="Which weights become `final/`: the last, or those of the least loss."
    )
    seed: int = Field(0, description="Seed of weights, order and dropout.")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(
        "no", description="Arithmetic of the forward pass."
    )
    encode: Literal["ahead", "each_step"] = Field(
        "ahead",
        description="When diffusion's frozen encoders see a clip: once, in a step of the workflow, "
        "or whenever it is learnt from.",
        json_schema_extra=Runtime,
    )
    guidance_dropout: Fraction = Field(
        0.1,
        description="How often diffusion learns without its conditions, so that it can be guided.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Less memory for a second forward pass; the same gradients."
    )
    compile: bool = Field(False, description="Compile the model with torch.compile.")

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _unquoted_no(cls, value: Any) -> Any:
        """YAML reads an unquoted `no` as false."""
        return "no" if value is False else value
