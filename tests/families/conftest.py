"""Every family's tiny checkpoint and a few hand-made samples."""

import numpy as np
import pytest
from PIL import Image

from spark_trainer.data.dataset import Sample

TEXTS = ["tags: beagle", "a dog", "tags: web site, snow leopard", "no tag"]


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Four different images with texts of different length."""
    noise = np.random.default_rng(0)
    images = [noise.integers(0, 255, (60, 80, 3), dtype=np.uint8) for _ in TEXTS]
    pairs = enumerate(zip(images, TEXTS, strict=True))
    return [Sample(f"{i:064x}", Image.fromarray(pixels), text) for i, (pixels, text) in pairs]
