"""A few hand-made samples, as clips of several frames and as single frames."""

import numpy as np
import pytest
from PIL import Image

from spark_trainer.data.sample import Sample

ANSWERS = (
    "tags: beagle",
    "a dog",
    "tags: web site, snow leopard",
    "no tag",
    "two lamps",
    "a red car and a poodle",
    "bubble",
    "it rains",
)
FRAMES = 4


def clip(
    number: int,
    answer: str,
    prompt: str | None = None,
    frames: int = FRAMES,
    size: tuple[int, int] = (80, 60),
) -> Sample:
    """A clip of noise, another for each number."""
    noise = np.random.default_rng(number)
    images = [noise.integers(0, 255, (*size[::-1], 3), dtype=np.uint8) for _ in range(frames)]
    times = tuple(0.5 * frame for frame in range(frames))
    return Sample(f"{number:064x}", tuple(map(Image.fromarray, images)), times, prompt, answer)


@pytest.fixture(scope="session")
def clips() -> list[Sample]:
    """Eight different clips with answers of different length."""
    return [clip(number, answer) for number, answer in enumerate(ANSWERS)]
