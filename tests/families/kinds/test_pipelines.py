"""Frames go into the pipelines as upstream's own processor would take them."""

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from spark_trainer.data import video
from spark_trainer.data.sample import Unusable
from spark_trainer.families.kinds import pipelines


def noise(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_bytes_become_the_numbers_that_upstream_makes_of_them() -> None:
    images = [noise(seed, (48, 32)) for seed in range(3)]
    ours = pipelines.scaled(pipelines.pixels(images))
    assert ours.equal(VaeImageProcessor().preprocess(images))
    assert ours.shape == (3, 3, 32, 48)


def test_the_middle_fits_without_distortion() -> None:
    wide = Image.new("L", (90, 30), 0)
    wide.paste(255, (30, 0, 60, 30))
    [square] = video.fitted([wide], (16, 16))
    assert square.mode == "RGB"
    assert np.asarray(square).min() > 200
    image = noise(0, (48, 32))
    assert video.fitted([image], (48, 32))[0].tobytes() == image.tobytes()


def test_frames_have_a_rate() -> None:
    assert pipelines.fps((1.0, 1.25, 1.5), "v") == pytest.approx(4)
    for times in ((), (1.0,), (2.0, 2.0)):
        with pytest.raises(Unusable, match=r"video v: .* have no rate"):
            pipelines.fps(times, "v")


def test_many_frames_are_encoded_a_few_at_a_time() -> None:
    class Mode:
        def __init__(self, pixels: torch.Tensor) -> None:
            self.latent_dist = self
            self.pixels = pixels

        def mode(self) -> torch.Tensor:
            return self.pixels[:, :1]

    class Vae:
        device, dtype = torch.device("cpu"), torch.float32
        sizes: list[int] = []  # noqa: RUF012

        def encode(self, pixels: torch.Tensor) -> Mode:
            self.sizes.append(len(pixels))
            return Mode(pixels)

    pixels = torch.randn(11, 3, 2, 2)
    assert pipelines.image_latents(Vae(), pixels).equal(pixels[:, :1])
    assert Vae.sizes == [8, 3]
