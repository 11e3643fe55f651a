"""AnimateDiff beside its pipeline."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from spark_trainer.config import Run
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families.animatediff import AnimateDiff, Draws
from spark_trainer.families.kinds.diffusion import Tensors
from spark_trainer.families.kinds.loading import Loaded, LoadOptions

from . import tiny_pipelines
from .conftest import clip
from .parity import (
    BOTH,
    GUIDANCE,
    MANY,
    SIZE,
    batch_of,
    between_steps,
    changed,
    ours,
    recorded,
    same,
    seeded,
    upstream,
)

FAMILY = AnimateDiff()
TAKES_ADAPTERS = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.animatediff(tmp_path_factory.mktemp("animatediff"))


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return FAMILY.load(str(folder), LoadOptions())


def material(number: int) -> Sample:
    return clip(number, f"dog {number} runs", frames=4, size=SIZE)


def parity(loaded: Loaded, pipe: Any) -> None:
    sample = clip(1, "a dog runs", frames=4, size=SIZE)
    batch = batch_of(FAMILY, loaded, [sample, sample])
    pipe.scheduler.set_timesteps(3)
    timestep = pipe.scheduler.timesteps[1]
    noise = torch.randn(1, *batch["latents"].shape[1:], generator=seeded(5)[0])
    latents = pipe.scheduler.add_noise(batch["latents"][:1], noise, timestep[None])
    run = lambda: pipe(  # noqa: E731
        sample.answer,
        height=SIZE[1],
        width=SIZE[0],
        num_frames=4,
        num_inference_steps=3,
        guidance_scale=GUIDANCE,
        output_type="latent",
        callback_on_step_end=between_steps(latents.clone),
    )
    call = recorded(pipe.unet, run)[1]
    draws = Draws(noise.expand(2, -1, -1, -1, -1), timestep.expand(2), BOTH)
    same(call, *ours(loaded, FAMILY, batch, draws))


def formula(loaded: Loaded, batch: Tensors, draws: Any, output: np.ndarray) -> np.ndarray:
    """Ho et al. 2020, equation 14."""
    return ((draws.noise_BCFHW.double().numpy() - output) ** 2).mean((1, 2, 3, 4))


def autoencoded(pipe: Any, pixels_FCHW: torch.Tensor) -> torch.Tensor:
    modes = pipe.vae.encode(pixels_FCHW).latent_dist.mode()
    return pipe.vae.decode(modes).sample.transpose(0, 1)


def decoded(pipe: Any, latents: torch.Tensor) -> torch.Tensor:
    return pipe.decode_latents(latents)[0]


def trained(saved: Path, folder: Path) -> dict[str, Any]:
    unet = diffusers.UNetMotionModel.from_pretrained(folder / "unet")
    adapter = diffusers.MotionAdapter.from_pretrained(saved / "motion_adapter")
    unet.load_motion_modules(adapter)
    return {"unet": unet, "motion_adapter": adapter}


def has_adapters(layers: set[str]) -> None:
    assert all(".motion_modules." in layer for layer in layers)


def test_the_pipelines_other_scheduler_settings_are_followed(tmp_path: Path) -> None:
    """A v-predicting AnimateDiff over scaled betas, whose last timestep is all noise."""
    folder = tiny_pipelines.animatediff(tmp_path, "v_prediction")
    config = diffusers.DDIMScheduler.load_config(folder / "scheduler")
    config |= {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}
    diffusers.DDIMScheduler.from_config(config).save_pretrained(folder / "scheduler")
    loaded = FAMILY.load(str(folder), LoadOptions())
    parity(loaded, upstream(folder))
    batch = batch_of(FAMILY, loaded, [material(1)])
    draws = FAMILY.draw(loaded, batch, seeded(3))
    _, output = ours(loaded, FAMILY, batch, draws)
    x = loaded.processor.scheduler.add_noise(batch["latents"], draws.noise_BCFHW, draws.timestep_B)
    velocity = loaded.processor.scheduler.get_velocity(
        batch["latents"], draws.noise_BCFHW, draws.timestep_B
    )
    torch.testing.assert_close(FAMILY.arguments(loaded, batch, draws)["sample"], x)
    expected = (output - velocity).square().mean()[None]
    torch.testing.assert_close(FAMILY.losses(loaded, loaded.model, batch, seeded(3)), expected)


def test_a_whole_trained_animatediff_is_saved_too(
    loaded: Loaded, folder: Path, tmp_path: Path
) -> None:
    FAMILY.freeze(loaded.model, Run(freeze=()))
    changed(loaded)
    FAMILY.save(loaded.model, tmp_path)
    unet = diffusers.UNetMotionModel.from_pretrained(tmp_path / "unet")
    parity(loaded, upstream(folder, unet=unet))


def test_fresh_motion_modules_change_nothing(folder: Path) -> None:
    """All frames of a still clip stay alike, as the image model would make each of them."""
    loaded = FAMILY.load(str(folder), LoadOptions(from_scratch=True))
    x_BCFHW = torch.randn(1, 4, 1, 16, 24, generator=seeded(1)[0]).expand(-1, -1, 3, -1, -1)
    text_BLD = torch.randn(3, 77, 32, generator=seeded(2)[0])[:1].expand(3, -1, -1)
    with torch.no_grad():
        said = loaded.model(x_BCFHW, torch.tensor([10]), text_BLD).sample
    torch.testing.assert_close(said[:, :, 0], said[:, :, 2])


def test_chances(loaded: Loaded) -> None:
    draws = FAMILY.draw(loaded, {"latents": torch.zeros(MANY, 1, 1, 1, 1)}, seeded(*range(MANY)))
    assert 0 <= draws.timestep_B.min() < 10
    assert 990 <= draws.timestep_B.max() < 1000
    assert float(draws.timestep_B.double().mean()) == pytest.approx(500, abs=20)
    assert float(draws.drop_text_B.double().mean()) == pytest.approx(0.1, abs=0.02)


def test_it_has_places_for_so_many_frames(loaded: Loaded) -> None:
    with pytest.raises(Unusable, match="9 frames; expected at most 8"):
        FAMILY.encode(loaded, clip(1, "", frames=9), SIZE)
