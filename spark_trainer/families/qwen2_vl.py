"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL (Wang et al. 2024, arXiv:2409.12191).

A video goes in as such. Positions are counted in time, height and width (M-RoPE); in a packed row
they start again with every sample. Qwen2.5 measures time in seconds, Qwen3 writes time stamps into
the prompt: both come from the frames' own times.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from spark_trainer import chat, families
from spark_trainer.data.sample import Sample
from spark_trainer.families import Batch, Encoded, Loaded, Wanted

if TYPE_CHECKING:
    import torch

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
ONE_FRAME = False
PACKS = True
TAG = "video-text-to-text"
PARTS = {
    "vision": ("model.visual",),
    "projector": ("model.visual.merger", "model.visual.deepstack_merger_list"),
    "language": ("model.language_model", "lm_head"),
}
FROZEN = ("vision",)
LORA_TARGETS = r"model\.language_model\..*\.(q|k|v|o|gate|up|down)_proj"


def load(name: str, wanted: Wanted) -> Loaded:
    """Load a hub id or folder.

    Upstream warns unless it is told whether the budget of pixels caps each frame; False is what it
    does untold.
    """
    loaded = families.load(name, wanted)
    video_processor = loaded.processor.video_processor
    if video_processor.cap_pixels_per_frame is None:
        video_processor.cap_pixels_per_frame = False
    return loaded


def encode(loaded: Loaded, sample: Sample, max_length: int) -> Encoded:
    """One exchange about a video."""
    return chat.encode(loaded, _two_frames(sample), max_length, as_video=True)


def collate(loaded: Loaded, encoded: Sequence[Encoded], packed: bool) -> Batch:
    """Padded rows, or one packed row."""
    if not packed:
        return chat.pad(loaded, encoded)
    return chat.pack(encoded, partial(_positions, loaded))


def loss(loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor":
    """Sum of the answers' token losses."""
    return chat.loss(model, batch)


def generate(loaded: Loaded, model: Any, sample: Sample, max_new_tokens: int) -> str:
    """An answer about a video."""
    return chat.generate(loaded, model, _two_frames(sample), max_new_tokens, as_video=True)


def _two_frames(sample: Sample) -> Sample:
    """A single frame twice: a patch spans two frames, and Qwen3's processor does not fill up."""
    if len(sample.images) > 1:
        return sample
    return replace(sample, images=sample.images * 2, times=sample.times * 2)


def _positions(loaded: Loaded, one: Encoded) -> "torch.Tensor":
    """A sample's positions (3, L) in time, height and width."""
    tokens = {name: value[None] for name, value in one.tokens.items()}
    grids = {name: value for name, value in one.vision.items() if not name.startswith("pixel")}
    positions_3BL: torch.Tensor
    positions_3BL, _ = loaded.model.model.get_rope_index(**tokens, **grids)
    return positions_3BL[:, 0]
