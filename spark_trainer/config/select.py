"""Choosing a caption."""

from typing import Literal

from pydantic import Field

from spark_trainer.config.caption import Backend
from spark_trainer.config.section import DEVICE, SHARE, Device, Runtime, Section, Share


class Select(Section):
    """The caption for the manifest, where several captioners wrote one."""

    captioners: tuple[Backend, ...] = Field(
        (),
        description="Captioners to choose from; without it all of caption.captioner_backend.",
    )
    by: Literal["first", "longest", "agreement", "score"] = Field(
        "first",
        description="`first` takes the first captioner with a caption, `longest` the caption with "
        "the most words, `agreement` the one most like the others (mean ROUGE-L), `score` the one "
        "that fits the frames best (CLIPScore).",
    )
    model_name: str = Field(
        "openai/clip-vit-base-patch32", description="CLIP checkpoint, for `score`."
    )
    revision: str = Field("main", description="Branch, tag or commit of the CLIP checkpoint.")
    device: Device = Field("cuda", description=DEVICE, json_schema_extra=Runtime)
    gpu_fraction: Share = Field(1.0, description=SHARE, json_schema_extra=Runtime)
