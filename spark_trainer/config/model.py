"""The settings of the model, of its trained parts, and of its data."""

from typing import Literal

from pydantic import Field

from spark_trainer.config.asr import Asr
from spark_trainer.config.dataset import Sampling, Split, Text
from spark_trainer.config.rft import Rft
from spark_trainer.config.section import Fraction, PathText, Positive, ResultText, Runtime, Section


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), for `finetune: lora` and `qlora`."""

    rank: int = Field(16, ge=1, description="Rank of the two matrices.")
    alpha: Positive = Field(32.0, description="The update is scaled by alpha / rank.")
    dropout: Fraction = Field(0.0, description="Dropout of the adapters' input.")
    targets: tuple[str, ...] | None = Field(
        None,
        description="Names of the linear layers that get an adapter; without it the family's own "
        "choice.",
    )


# What `model_type` may be -> the kind of the families that it trains.
MODEL_TYPES = {
    "vision_language": "vision_language",
    "diffusion": "diffusion",
    "asr": "speech",
    "rft": "vision_language",
}


class Model(Section):
    """The model and its data."""

    model_name: str = Field(
        "Salesforce/blip-image-captioning-base",
        min_length=1,
        description="Hub id or local folder.",
    )
    base_run: str | None = Field(
        None,
        min_length=1,
        description="Name of another run here: begin with its trained weights instead of those of "
        "`model_name`. It is trained first.",
    )
    model_type: Literal[*MODEL_TYPES] = Field(  # type: ignore[valid-type]  # made from the keys
        "vision_language",
        description="Method of training, and the kind of model that it trains: vision_language, "
        "diffusion and asr are supervised, rft lets a model that writes about videos learn from "
        "rewards.",
    )
    from_scratch: bool = Field(
        False, description="Start from random weights instead of the checkpoint's."
    )
    manifest_path: PathText | None = Field(
        None, description="Train on this manifest; without it on the one that this build makes."
    )
    output_dir: ResultText = Field(
        "runs", description="Folder for the run folders.", json_schema_extra=Runtime
    )
    split: Split = Field(default_factory=Split)
    text: Text = Field(default_factory=Text)
    clip: Sampling = Field(default_factory=Sampling)
    asr: Asr = Field(default_factory=Asr)

    finetune: Literal["full", "lora", "qlora"] = Field(
        "full",
        description="Train all weights that are not frozen, or low-rank adapters, or such adapters "
        "over a base in 4 bits.",
    )
    lora: Lora = Field(default_factory=Lora)
    rft: Rft = Field(default_factory=Rft)
    freeze: tuple[str, ...] | None = Field(
        None,
        description="Parts of the model that are not trained, such as `vision`; without it the "
        "family's own choice, with an empty list none.",
    )
    save: Literal["merged", "adapter"] = Field(
        "merged",
        description="Content of `final/` after LoRA: the whole model, or the adapter alone.",
    )
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3"] = Field(
        "auto",
        description="Implementation of attention; `auto` is torch's kernel for samples of any "
        "lengths on a GPU in 16 bits, and elsewhere transformers' own choice.",
    )
