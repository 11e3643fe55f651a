"""InternVL (Chen et al. 2023, arXiv:2312.14238), `InternVLForConditionalGeneration`.

A video goes in as such: each frame is one tile, written `Frame1: <img>…</img>` by the processor.
The checkpoints whose names end in `-hf` load without remote code; others must be converted.
"""

from spark_trainer.families.kinds.chat import ChatModel


class InternVL(ChatModel):
    model_types = ("internvl",)
    tag = "video-text-to-text"
    parts = {
        "vision": ("model.vision_tower",),
        "projector": ("model.multi_modal_projector",),
        "language": ("model.language_model", "lm_head"),
    }
    frozen = ("vision",)
    lora_targets = r"model\.language_model\..*\.(q|k|v|o|gate|up|down)_proj"
