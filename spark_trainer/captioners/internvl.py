"""InternVL (Chen et al. 2023, arXiv:2312.14238): an image in tiles, or frames as a video.

`OpenGVLab/InternVL-Chat-V1-5` needs remote code; the default is a successor in the layout of
transformers' own class, as all are whose names end in `-hf`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer import chat
from spark_trainer.captioners.network import Network
from spark_trainer.config import Captioning
from spark_trainer.data.dataset import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_TYPES = ("internvl",)
DEFAULT_MODEL = "OpenGVLab/InternVL3-8B-hf"
PROMPT = "Describe the video in one or two sentences."
SEES_VIDEO = True
NEEDS_GPU = True


def load(settings: Captioning, device: str, threads: int) -> Network:
    """Load a hub id or a local folder."""
    return Network(settings, device, threads, _inputs)


def _inputs(
    processor: Any, images: "Sequence[Image]", times: Sequence[float], prompt: str
) -> dict[str, Any]:
    sample = Sample("", tuple(images), tuple(times), prompt, answer="")
    return chat.ask(processor, sample, as_video=len(images) > 1)
