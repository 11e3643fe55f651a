"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL (Wang et al. 2024, arXiv:2409.12191).

A video goes in as such. Positions are counted in time, height and width (M-RoPE); in a packed row
they start again with every sample. Qwen2.5 measures time in seconds, Qwen3 writes time stamps into
the prompt: both come from the frames' own times.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds.batch import Encoded
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.padding import PER_TOKEN

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
    tells_lengths = ("text_config", "vision_config")
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
        rows = ({n: v[None] for n, v in one.tokens.items()} | one.vision for one in encoded)
        in_space_31L = torch.cat([_in_space(loaded, row) for row in rows], dim=2)
        return torch.cat([in_text_1L[None], in_space_31L])

    def answer_positions(self, loaded: Loaded, questions: Sequence[Encoded]) -> "torch.Tensor":
        """Return the positions (3, R, 1): in time, height and width the same, as for any text."""
        import torch

        rows = ({n: v[None] for n, v in one.tokens.items()} | one.vision for one in questions)
        last = [_in_space(loaded, row).max() for row in rows]
        return (torch.stack(last) + 1)[None, :, None].expand(3, -1, -1)

    def worked_out(self, loaded: Loaded, tensors: "dict[str, Any]") -> "dict[str, Any]":
        """See `ChatModel`: positions, and what the tower works out of the images' sizes."""
        made: dict[str, Any] = {}
        if "position_ids" not in tensors:
            made["position_ids"] = _in_space(loaded, tensors)
        for kind in ("image", "video"):
            if f"{kind}_grid_thw" in tensors and f"{kind}_features" not in tensors:
                found = _of_tower(loaded.model.model.visual, tensors[f"{kind}_grid_thw"])
                made |= {f"{kind}_{name}": value for name, value in found.items()}
        return made


def _in_space(loaded: Loaded, rows: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """Return the positions (3, B, L) of rows in time, height and width."""
    asked = {name: value for name, value in rows.items() if name in PER_TOKEN or "_grid_" in name}
    positions_3BL: torch.Tensor
    positions_3BL, _ = loaded.model.model.get_rope_index(**asked)
    return positions_3BL


def _of_tower(tower: Any, grid_N3: "torch.Tensor") -> "dict[str, Any]":
    """Return what a vision tower works out of the sizes of N images or videos, by its own names.

    Args:
        tower: upstream's, of one of the three.
        grid_N3: time, height and width of each in patches.
    """
    from transformers import vision_utils

    merge = tower.config.spatial_merge_size
    lengths = vision_utils.get_vision_cu_seqlens(grid_N3)
    made = {
        "cu_seqlens": lengths,
        "max_seqlen": _longest(lengths),
        "position_ids": vision_utils.get_vision_position_ids(grid_N3, merge),
    }
    if window := getattr(tower, "window_size", None):
        order, lengths = vision_utils.get_vision_window_index(
            grid_N3, merge, window, tower.patch_size
        )
        made |= {"window_index": order, "cu_window_seqlens": lengths}
        made["max_window_seqlen"] = _longest(lengths)
    if side := getattr(tower, "num_grid_per_side", None):
        indices, weights = vision_utils.get_vision_interpolation_indices_and_weights(
            *(grid_N3, side, tower.interpolation_mode, tower.interpolation_align_corners, merge)
        )
        made |= {"interp_indices": indices, "interp_weights": weights}
    return made


def _longest(boundaries: "torch.Tensor") -> int:
    return int(boundaries.diff().max())
