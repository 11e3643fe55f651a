"""LLaVA 1.5, NeXT and OneVision (Liu et al. 2023, arXiv:2304.08485).

OneVision takes a video as such; the others see its frames as images.
"""

from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded

VIDEO_TYPES = ("llava_onevision",)


class Llava(ChatModel):
    model_types = ("llava", "llava_next", "llava_onevision")
    tag = "image-text-to-text"
    parts = {
        "vision": ("model.vision_tower",),
        "projector": ("model.multi_modal_projector", "model.image_newline"),
        "language": ("model.language_model", "lm_head"),
    }
    frozen = ("vision",)
    lora_targets = r"model\.language_model\..*\.(q|k|v|o|gate|up|down)_proj"

    def sees_video(self, loaded: Loaded) -> bool:
        """See `ChatModel`; it depends on the variant."""
        return loaded.model.config.model_type in VIDEO_TYPES
