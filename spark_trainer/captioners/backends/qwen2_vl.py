"""Qwen2-VL, 2.5 and 3 (Wang et al. 2024, arXiv:2409.12191): an image, or frames as a video."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from spark_trainer.captioners import network

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
PACKAGES = network.PACKAGES
DEFAULT_MODEL = "Qwen/Qwen2-VL-7B-Instruct"
PROMPT = "Describe the video in one or two sentences."
SEES_VIDEO = True
NEEDS_GPU = True


def _inputs(
    processor: Any, images: "Sequence[Image]", times: Sequence[float], prompt: str
) -> dict[str, Any]:
    """Prepare a conversation; set whether the pixel budget caps each frame, or upstream warns."""
    if processor.video_processor.cap_pixels_per_frame is None:
        processor.video_processor.cap_pixels_per_frame = False
    return network.conversation(processor, images, times, prompt)


load = partial(network.Network, inputs=_inputs)
