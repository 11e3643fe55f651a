"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL (Wang et al. 2024, arXiv:2409.12191).

A video goes in as such. Positions are counted in time, height and width (M-RoPE); in a packed row
they start again with every sample. Qwen2.5 measures time in seconds, Qwen3 writes time stamps into
the prompt: both come from the frames' own times.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds.batch import Encoded
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded, LoadOptions

if TYPE_CHECKING:
    import torch


class Qwen2VL(ChatModel):
    model_types = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    tag = "video-text-to-text"
    parts = {
        "vision": ("model.visual",),
        "projector": ("model.visual.merger", "model.visual.deepstack_merger_list"),
        "language": ("model.language_model", "lm_head"),
    }
    frozen = ("vision",)
    lora_targets = r"model\.language_model\..*\.(q|k|v|o|gate|up|down)_proj"

    def load(self, name: str, options: LoadOptions) -> Loaded:
        """See `Kind`.

        Upstream warns unless it is told whether the budget of pixels caps each frame; False is what
        it does untold.
        """
        loaded = super().load(name, options)
        video_processor = loaded.processor.video_processor
        if video_processor.cap_pixels_per_frame is None:
            video_processor.cap_pixels_per_frame = False
        return loaded

    def adapted(self, sample: Sample) -> Sample:
        """Return a single frame twice: a patch spans two, which Qwen3's processor does not fill."""
        if len(sample.images) > 1:
            return sample
        return replace(sample, images=sample.images * 2, times=sample.times * 2)

    def positions(self, loaded: Loaded, encoded: Sequence[Encoded]) -> "torch.Tensor":
        """Return the positions (4, 1, L) of a packed row: in the text, time, height and width.

        Those in the text go before the others, as upstream's mask for packed rows wants it.
        """
        import torch

        in_text_1L = super().positions(loaded, encoded)
        in_space_3L = torch.cat([_in_space(loaded, one) for one in encoded], dim=1)
        return torch.cat([in_text_1L, in_space_3L])[:, None]


def _in_space(loaded: Loaded, one: Encoded) -> "torch.Tensor":
    """Return a sample's positions (3, L) in time, height and width."""
    tokens = {name: value[None] for name, value in one.tokens.items()}
    grids = {name: value for name, value in one.vision.items() if not name.startswith("pixel")}
    positions_3BL: torch.Tensor
    positions_3BL, _ = loaded.model.model.get_rope_index(**tokens, **grids)
    return positions_3BL[:, 0]
