"""LLaVA 1.5, NeXT and OneVision (Liu et al. 2023, arXiv:2304.08485).

OneVision takes a video as such; the others see its frames as images.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer import chat, families
from spark_trainer.data.sample import Sample
from spark_trainer.families import Batch, Encoded, Loaded, Wanted

if TYPE_CHECKING:
    import torch

MODEL_TYPES = ("llava", "llava_next", "llava_onevision")
VIDEO_TYPES = ("llava_onevision",)
ONE_FRAME = False
PACKS = True
TAG = "image-text-to-text"
PARTS = {
    "vision": ("model.vision_tower",),
    "projector": ("model.multi_modal_projector", "model.image_newline"),
    "language": ("model.language_model", "lm_head"),
}
FROZEN = ("vision",)
LORA_TARGETS = r"model\.language_model\..*\.(q|k|v|o|gate|up|down)_proj"


def load(name: str, wanted: Wanted) -> Loaded:
    """Load a hub id or folder."""
    return families.load(name, wanted)


def encode(loaded: Loaded, sample: Sample, max_length: int) -> Encoded:
    """One exchange about the frames."""
    return chat.encode(loaded, sample, max_length, _sees_video(loaded))


def collate(loaded: Loaded, encoded: Sequence[Encoded], packed: bool) -> Batch:
    """Padded rows, or one packed row."""
    return chat.pack(encoded) if packed else chat.pad(loaded, encoded)


def loss(loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor":
    """Sum of the answers' token losses."""
    return chat.loss(model, batch)


def generate(loaded: Loaded, model: Any, sample: Sample, max_new_tokens: int) -> str:
    """An answer about the frames."""
    return chat.generate(loaded, model, sample, max_new_tokens, _sees_video(loaded))


def _sees_video(loaded: Loaded) -> bool:
    """Whether this variant takes a video; the others take its frames as images."""
    return loaded.model.config.model_type in VIDEO_TYPES
