"""Which model a run trains, on what, and how much of it."""

from typing import Literal

from pydantic import Field

from spark_trainer.config.dataset import Sampling, Split, Text
from spark_trainer.config.section import Fraction, PathText, Positive, ResultText, Runtime, Section


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), for `finetune: lora` and `qlora`."""

    rank: int = Field(16, ge=1, description="Rank of the two matrices.")
    alpha: Positive = Field(32.0, description="The update is scaled by alpha / rank.")
    dropout: Fraction = Field(0.0, description="Dropout in front of the adapters.")
    targets: tuple[str, ...] | None = Field(
        None, description="Names of the linear layers that get one; the family's own without."
    )


class Model(Section):
    """The model and its data."""

    model_name: str = Field(
        "Salesforce/blip-image-captioning-base", description="Hub id or local folder."
    )
    model_type: Literal["vision_language", "diffusion", "asr", "rft"] = Field(
        "vision_language",
        description="Kind of training; this version trains vision_language and diffusion.",
    )
    from_scratch: bool = Field(
        False, description="Start from random weights of the model's configuration."
    )
    manifest_path: PathText | None = Field(
        None, description="Train on this manifest; without it, on the one this workflow builds."
    )
    output_dir: ResultText = Field(
        "runs", description="Where run folders go.", json_schema_extra=Runtime
    )
    split: Split = Field(default_factory=Split)
    text: Text = Field(default_factory=Text)
    clip: Sampling = Field(default_factory=Sampling)

    finetune: Literal["full", "lora", "qlora"] = Field(
        "full",
        description="All trainable weights, or low-rank adapters, or those over a base in 4 bits.",
    )
    lora: Lora = Field(default_factory=Lora)
    freeze: tuple[str, ...] | None = Field(
        None,
        description="Parts of the model that stay as they are, such as `vision`; the family's "
        "own choice without, none with an empty list.",
    )
    save: Literal["merged", "adapter"] = Field(
        "merged",
        description="What `final/` of a LoRA run holds: the whole model, or the adapter alone.",
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="Implementation of attention; `auto` is the model's own choice."
    )
