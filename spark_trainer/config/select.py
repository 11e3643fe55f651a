"""Choosing a caption."""

from typing import ClassVar, Literal, get_args

from pydantic import Field

from spark_trainer.config.caption import Backend
from spark_trainer.config.section import (
    DEVICE,
    SHARE,
    Device,
    Runtime,
    Share,
    StepSection,
    ValueType,
)

CAPTION: ValueType = {
    "caption": "text",
    "model": "text",
    "revision": "text",
    "prompt": "text",
    "score": "number",
}


class Select(StepSection):
    """The caption for the manifest, where several captioners wrote one."""

    UPSTREAM: ClassVar[tuple[str, ...]] = ("caption",)
    SWITCH: ClassVar[str | None] = "caption"
    CORRECTED: ClassVar[tuple[str, ...]] = ("caption", "captions", "captioned")
    MANIFEST: ClassVar[dict[str, ValueType]] = {
        "caption": "text",
        "captioner": "text",
        "captioner_model": "text",
        "captioner_revision": "text",
        "caption_prompt": "text",
        "no_caption": "text",
        "captions": dict.fromkeys(get_args(Backend), CAPTION),
        "agreement": "number",
    }

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
