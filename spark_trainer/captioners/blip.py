"""BLIP (Li et al. 2022, arXiv:2201.12086): one sentence about one image.

A prompt is the beginning of the sentence, and stands in the caption.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer.captioners.network import Network
from spark_trainer.config import Captioning

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_TYPES = ("blip",)
DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"
PROMPT = ""
SEES_VIDEO = False
NEEDS_GPU = True


def load(settings: Captioning, device: str, threads: int) -> Network:
    """Load a hub id or a local folder."""
    return Network(settings, device, threads, _inputs, echo=True)


def _inputs(
    processor: Any, images: "Sequence[Image]", times: Sequence[float], prompt: str
) -> dict[str, Any]:
    return dict(processor(images=images[0], text=prompt or None, return_tensors="pt"))
