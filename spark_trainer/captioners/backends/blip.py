"""BLIP (Li et al. 2022, arXiv:2201.12086): one sentence about one image.

A prompt is the beginning of the sentence, and stays in the caption.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from spark_trainer.captioners import network

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_TYPES = ("blip",)
PACKAGES = network.PACKAGES
DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"
PROMPT = ""
SEES_VIDEO = False
NEEDS_GPU = True


def _inputs(
    processor: Any, images: "Sequence[Image]", times: Sequence[float], prompt: str
) -> dict[str, Any]:
    """Prepare one image and a prompt; an empty prompt is left out, as it gives an end token."""
    return dict(processor(images=images[0], text=prompt or None, return_tensors="pt"))


load = partial(network.Network, inputs=_inputs, echo=True)
