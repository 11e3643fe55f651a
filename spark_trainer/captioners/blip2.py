"""BLIP-2 (Li et al. 2023, arXiv:2301.12597): one image, over OPT or T5.

OPT goes on after the prompt, so a question reads `Question: … Answer:`. T5 writes nothing sensible
without one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer.captioners.network import Network
from spark_trainer.config import Captioning

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_TYPES = ("blip-2",)
DEFAULT_MODEL = "Salesforce/blip2-opt-2.7b"
PROMPT = ""
SEES_VIDEO = False
NEEDS_GPU = True


def load(settings: Captioning, device: str, threads: int) -> Network:
    """Load a hub id or a local folder."""
    return Network(settings, device, threads, _inputs)


def _inputs(
    processor: Any, images: "Sequence[Image]", times: Sequence[float], prompt: str
) -> dict[str, Any]:
    return dict(processor(images=images[0], text=prompt, return_tensors="pt"))
