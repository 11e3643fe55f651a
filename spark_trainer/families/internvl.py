"""InternVL (Chen et al. 2023, arXiv:2312.14238), `InternVLForConditionalGeneration`.

A video goes in as such: each frame is one tile, written `Frame1: <img>…</img>` by the processor.
The checkpoints whose names end in `-hf` load without remote code; others must be converted.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer import chat, families
from spark_trainer.data.sample import Sample
from spark_trainer.families import Batch, Encoded, Loaded, Wanted

if TYPE_CHECKING:
    import torch

MODEL_TYPES = ("internvl",)
ONE_FRAME = False
PACKS = True
TAG = "video-text-to-text"
PARTS = {
    "vision": ("model.vision_tower",),
    "projector": ("model.multi_modal_projector",),
    "language": ("model.language_model", "lm_head"),
}
FROZEN = ("vision",)
LORA_TARGETS = r"model\.language_model\..*\.(q|k|v|o|gate|up|down)_proj"


def load(name: str, wanted: Wanted) -> Loaded:
    """Load a hub id or folder."""
    return families.load(name, wanted)


def encode(loaded: Loaded, sample: Sample, max_length: int) -> Encoded:
    """One exchange about a video."""
    return chat.encode(loaded, sample, max_length, as_video=True)


def collate(loaded: Loaded, encoded: Sequence[Encoded], packed: bool) -> Batch:
    """Padded rows, or one packed row."""
    return chat.pack(encoded) if packed else chat.pad(loaded, encoded)


def loss(loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor":
    """Sum of the answers' token losses."""
    return chat.loss(model, batch)


def generate(loaded: Loaded, model: Any, sample: Sample, max_new_tokens: int) -> str:
    """An answer about a video."""
    return chat.generate(loaded, model, sample, max_new_tokens, as_video=True)
