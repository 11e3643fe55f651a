"""Captions by BLIP (Li et al. 2022, arXiv:2201.12086): one sentence for the middle frame."""

from collections.abc import Sequence
from pathlib import Path

from spark_trainer import captioners
from spark_trainer.config import Caption

default_model = "Salesforce/blip-image-captioning-base"
identity = "blip"


class Blip:
    """A loaded checkpoint and its processor."""

    def __init__(self, settings: Caption, threads: int) -> None:
        import torch
        from transformers import BlipForConditionalGeneration, BlipProcessor

        torch.set_num_threads(threads)
        name = captioners.model_name(settings)
        device = settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._settings = settings
        self._processor = BlipProcessor.from_pretrained(name)
        model = BlipForConditionalGeneration.from_pretrained(name, use_safetensors=True)
        self._model = model.eval().to(device)

    def predict(self, image_path: Path) -> str:
        """The caption of one image."""
        return self.predict_batch([[image_path]])[0]

    def predict_batch(self, videos: Sequence[Sequence[Path]]) -> list[str]:
        """The caption of each video's middle frame."""
        import torch
        from PIL import Image

        images = []
        for frames in videos:
            with Image.open(captioners.middle(frames)) as image:
                images.append(image.convert("RGB"))
        inputs = self._processor(images=images, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            ids_BL = self._model.generate(
                **inputs,
                max_new_tokens=self._settings.max_new_tokens,
                num_beams=self._settings.num_beams,
                do_sample=False,
            )
        texts = self._processor.batch_decode(ids_BL, skip_special_tokens=True)
        return [text.strip() for text in texts]


def load(settings: Caption, threads: int) -> Blip:
    """Load a hub id or a local folder; weights must be safetensors."""
    return Blip(settings, threads)
