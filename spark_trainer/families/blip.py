"""BLIP captioning (Li et al. 2022, arXiv:2201.12086), `BlipForConditionalGeneration`.

Shapes: B samples, L tokens, C channels, H and W pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.data.dataset import Sample
from spark_trainer.families import Loaded
from spark_trainer.losses.next_token import IGNORED, next_token

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

MODEL_TYPES = ("blip",)
MAX_NEW_TOKENS = 40


def load(name: str, from_scratch: bool) -> Loaded:
    """Load a hub id or folder; from scratch, its configuration with random weights.

    Raises:
        OSError: the folder lacks a file, or holds no safetensors weights.
    """
    from transformers import AutoProcessor, BlipConfig, BlipForConditionalGeneration

    processor = AutoProcessor.from_pretrained(name)
    if from_scratch:
        model = BlipForConditionalGeneration(BlipConfig.from_pretrained(name))
    else:
        model = BlipForConditionalGeneration.from_pretrained(name, use_safetensors=True)
    return Loaded(model, processor)


def collate(loaded: Loaded, samples: Sequence[Sample]) -> "dict[str, torch.Tensor]":
    """Pixels (B, C, H, W), ids, mask and labels (B, L).

    The first id is the decoder's start token, because that is what `generate` starts from
    (transformers/models/blip/modeling_blip.py); padding is never learnt.
    """
    text = loaded.model.config.text_config
    batch = loaded.processor(
        images=[sample.image for sample in samples],
        text=[sample.text for sample in samples],
        padding=True,
        truncation=True,
        max_length=text.max_position_embeddings,
        return_tensors="pt",
    )
    ids_BL, mask_BL = batch["input_ids"], batch["attention_mask"]
    labels_BL = ids_BL.masked_fill(mask_BL == 0, IGNORED)
    ids_BL[:, 0] = text.bos_token_id
    return {
        "pixel_values": batch["pixel_values"],
        "input_ids": ids_BL,
        "attention_mask": mask_BL,
        "labels": labels_BL,
    }


def targets(batch: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """How many tokens the loss of a batch is over; the first one is never predicted."""
    return (batch["labels"][:, 1:] != IGNORED).sum()


def loss(loaded: Loaded, model: Any, batch: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """Sum of the caption tokens' cross-entropy, smoothed as the checkpoint's config says."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    smoothing = loaded.model.config.text_config.label_smoothing
    return next_token(model(**inputs).logits, batch["labels"], smoothing)


def generate(loaded: Loaded, model: Any, images: "Sequence[Image]") -> list[str]:
    """A greedy caption for each image."""
    inputs = loaded.processor(images=list(images), return_tensors="pt")
    device = next(model.parameters()).device
    ids_BL = model.generate(
        pixel_values=inputs["pixel_values"].to(device),
        max_new_tokens=MAX_NEW_TOKENS,
        num_beams=1,
        do_sample=False,
    )
    return [
        text.strip() for text in loaded.processor.batch_decode(ids_BL, skip_special_tokens=True)
    ]


def save(loaded: Loaded, model: Any, folder: Path) -> None:
    """Write what `from_pretrained` reads: weights as safetensors, configuration, processor."""
    model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
