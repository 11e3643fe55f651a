"""Florence-2 (Xiao et al. 2023, arXiv:2311.06242): one image and a task.

The tasks that make captions are `<CAPTION>`, `<DETAILED_CAPTION>` and `<MORE_DETAILED_CAPTION>`.
`microsoft/Florence-2-large` needs remote code; the default is the same weights in the layout of
transformers' own class.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spark_trainer.captioners.network import Network
from spark_trainer.config import Captioning

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_TYPES = ("florence2",)
DEFAULT_MODEL = "florence-community/Florence-2-large"
PROMPT = "<DETAILED_CAPTION>"
SEES_VIDEO = False
NEEDS_GPU = True


def load(settings: Captioning, device: str, threads: int) -> Network:
    """Load a hub id or a local folder."""
    return Network(settings, device, threads, _inputs)


def _inputs(
    processor: Any, images: "Sequence[Image]", times: Sequence[float], prompt: str
) -> dict[str, Any]:
    return dict(processor(images=images[0], text=prompt, return_tensors="pt"))
