"""Qwen2-VL, 2.5 and 3 (Wang et al. 2024, arXiv:2409.12191): an image, or frames as a video."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer import chat
from spark_trainer.captioners.network import Network
from spark_trainer.config import Captioning
from spark_trainer.data.dataset import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
DEFAULT_MODEL = "Qwen/Qwen2-VL-7B-Instruct"
PROMPT = "Describe the video in one or two sentences."
SEES_VIDEO = True
NEEDS_GPU = True


def load(settings: Captioning, device: str, threads: int) -> Network:
    """Load a hub id or a local folder."""
    return Network(settings, device, threads, _inputs)


def _inputs(
    processor: Any, images: "Sequence[Image]", times: Sequence[float], prompt: str
) -> dict[str, Any]:
    """Upstream warns unless it is told whether the budget of pixels caps each frame."""
    if processor.video_processor.cap_pixels_per_frame is None:
        processor.video_processor.cap_pixels_per_frame = False
    sample = Sample("", tuple(images), tuple(times), prompt, answer="")
    return chat.ask(processor, sample, as_video=len(images) > 1)
