"""Stable Video Diffusion beside its pipeline, and what public trainers get wrong about it."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families import svd
from spark_trainer.families.kinds.diffusion import Tensors
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.svd import Draws, StableVideoDiffusion

from . import tiny_pipelines
from .conftest import clip
from .parity import (
    BOTH,
    GUIDANCE,
    MANY,
    SIZE,
    batch_of,
    between_steps,
    ours,
    recorded,
    same,
    seeded,
)

FIRST_SIGMA = 0.05
FAMILY = StableVideoDiffusion()
TAKES_ADAPTERS = False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.svd(tmp_path_factory.mktemp("svd"))


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return FAMILY.load(str(folder), LoadOptions())


def material(number: int) -> Sample:
    return clip(number, f"dog {number} runs", frames=4, size=SIZE)


def parity(loaded: Loaded, pipe: Any) -> None:
    sample = clip(1, "", frames=4, size=SIZE)
    bucket = svd.motion_bucket(sample.images)
    assert bucket != 127
    batch = batch_of(FAMILY, loaded, [sample, sample])
    pipe.scheduler.set_timesteps(3)
    sigma = pipe.scheduler.sigmas[1]
    noise = torch.randn(1, *batch["latents"].shape[1:], generator=seeded(5)[0])
    latents = batch["latents"][:1] + sigma * noise
    run = lambda: pipe(  # noqa: E731
        sample.images[0],
        height=SIZE[1],
        width=SIZE[0],
        num_frames=4,
        num_inference_steps=3,
        max_guidance_scale=GUIDANCE,
        fps=2,
        motion_bucket_id=bucket,
        noise_aug_strength=FIRST_SIGMA,
        generator=seeded(6)[0],
        output_type="latent",
        callback_on_step_end=between_steps(latents.clone),
    )
    call = recorded(pipe.unet, run)[1]
    draws = Draws(
        noise_BTCHW=noise.expand(2, -1, -1, -1, -1),
        sigma_B=sigma.expand(2),
        first_noise_BCHW=torch.randn(1, 3, *SIZE[::-1], generator=seeded(6)[0]).expand(
            2, -1, -1, -1
        ),
        first_sigma_B=torch.full((2,), FIRST_SIGMA),
        drop_image_B=BOTH,
        drop_first_B=BOTH,
    )
    same(call, *ours(loaded, FAMILY, batch, draws))


def formula(loaded: Loaded, batch: Tensors, draws: Any, output: np.ndarray) -> np.ndarray:
    """Karras et al. 2022, equations 2, 7 and 8 with the weighting (σ² + 1) / σ²."""
    x0, noise = batch["latents"].double().numpy(), draws.noise_BTCHW.double().numpy()
    sigma = draws.sigma_B.double().numpy().reshape(-1, 1, 1, 1, 1)
    x = x0 + sigma * noise
    denoised = x / (sigma**2 + 1) - sigma / np.sqrt(sigma**2 + 1) * output
    return ((sigma**2 + 1) / sigma**2 * (denoised - x0) ** 2).mean((1, 2, 3, 4))


def autoencoded(pipe: Any, pixels_TCHW: torch.Tensor) -> torch.Tensor:
    modes = pipe.vae.encode(pixels_TCHW).latent_dist.mode()
    return pipe.vae.decode(modes, num_frames=4).sample.transpose(0, 1)


def decoded(pipe: Any, latents: torch.Tensor) -> torch.Tensor:
    return pipe.decode_latents(latents, num_frames=4)[0]


def trained(saved: Path, folder: Path) -> dict[str, Any]:
    unet = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(saved / "unet")
    return {"unet": unet}


def has_adapters(layers: set[str]) -> None:
    assert all(".attn" in layer for layer in layers)


def test_the_first_frame_is_encoded_exactly_under_autocast(loaded: Loaded) -> None:
    batch = batch_of(FAMILY, loaded, [material(1)])
    draws = FAMILY.draw(loaded, batch, seeded(1))
    exact = FAMILY.arguments(loaded, batch, draws)["sample"]
    with torch.autocast("cpu", torch.bfloat16):
        assert FAMILY.arguments(loaded, batch, draws)["sample"].equal(exact)


def test_each_clip_has_its_own_rate_motion_and_noise(loaded: Loaded) -> None:
    """Not 7 frames a second, not a motion of 127, not one noise on the first frames of a batch."""
    fast = clip(1, "", frames=4, size=SIZE)
    image = clip(2, "", frames=1, size=SIZE).images[0]
    still = Sample("b", (image,) * 4, (0.0, 0.1, 0.2, 0.3), None, "")
    batch = batch_of(FAMILY, loaded, [fast, still])
    draws = FAMILY.draw(loaded, batch, seeded(1, 2))
    told = FAMILY.arguments(loaded, batch, draws)["added_time_ids"]
    torch.testing.assert_close(told[:, 0], torch.tensor([1.0, 9.0]))
    assert told[0, 1] == svd.motion_bucket(fast.images) > 1
    assert told[1, 1] == 1
    assert told[0, 2] != told[1, 2]
    assert told[:, 2].equal(draws.first_sigma_B)


def test_noise_on_the_first_frame_is_what_the_network_is_told(loaded: Loaded) -> None:
    """Another strength changes the conditioning latents, from the same bytes that were kept."""
    batch = batch_of(FAMILY, loaded, [material(1)])
    draws = FAMILY.draw(loaded, batch, seeded(1))
    keep = torch.tensor([False])
    seen = []
    for strength in (0.0, 0.5):
        values = {**vars(draws), "first_sigma_B": torch.tensor([strength]), "drop_first_B": keep}
        seen.append(FAMILY.arguments(loaded, batch, Draws(**values))["sample"][:, :, 4:])
    assert not seen[0].equal(seen[1])
    clean = loaded.processor.vae.encode(
        loaded.processor.video_processor.preprocess(material(1).images[0])
    ).latent_dist.mode()  # neither scaled nor noised
    torch.testing.assert_close(seen[0], clean[:, None].expand_as(seen[0]), atol=1e-5, rtol=1e-5)


def test_chances(loaded: Loaded) -> None:
    batch = {"latents": torch.zeros(MANY, 1, 1, 1, 1), "first": torch.zeros(MANY, 1, 1, 1)}
    draws = FAMILY.draw(loaded, batch, seeded(*range(MANY)))
    for values, mean, std in (
        (draws.sigma_B, 0.7, 1.6),
        (draws.first_sigma_B, -3.0, 0.5),
    ):
        assert float(values.log().mean()) == pytest.approx(mean, abs=0.12)
        assert float(values.log().std()) == pytest.approx(std, rel=0.05)
    image, first = draws.drop_image_B.double(), draws.drop_first_B.double()
    assert float(image.mean()) == pytest.approx(0.1, abs=0.02)
    assert float(first.mean()) == pytest.approx(0.1, abs=0.02)
    assert float((image * first).mean()) == pytest.approx(0.05, abs=0.015)


def test_motion_is_measured() -> None:
    def levels(*values: int) -> list[Image.Image]:
        return [Image.new("RGB", (16, 16), (value,) * 3) for value in values]

    assert svd.motion_bucket(levels(9)) == 1
    assert svd.motion_bucket(levels(9, 9, 9)) == 1
    assert svd.motion_bucket(levels(10, 18, 10)) == 128
    assert svd.motion_bucket(levels(0, 32)) == 255
    assert svd.motion_bucket(levels(0, 255, 0)) == 255
    checks = np.indices((16, 16)).sum(0) % 2 * 255  # grain: whatever flickers within a cell
    grain = [Image.fromarray(frame.astype(np.uint8)) for frame in (checks, 255 - checks)]
    assert svd.motion_bucket(grain) <= 16


def test_one_frame_has_no_rate(loaded: Loaded) -> None:
    with pytest.raises(Unusable, match="have no rate"):
        FAMILY.encode(loaded, clip(1, "", frames=1), SIZE)
