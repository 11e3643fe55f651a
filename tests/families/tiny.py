"""A tiny checkpoint for each family, random weights from upstream's own classes.

The function is called like the family's file: a new family adds its own here.
"""

from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent.parent


def blip(folder: Path) -> Path:
    """The demo's configuration with weights."""
    from transformers import AutoProcessor, BlipConfig, BlipForConditionalGeneration

    source = ROOT / "config/demo/blip-small"
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(BlipConfig.from_pretrained(source))
    model.save_pretrained(folder)
    AutoProcessor.from_pretrained(source).save_pretrained(folder)
    return folder
