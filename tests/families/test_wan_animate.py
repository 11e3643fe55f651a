"""Wan2.2-Animate beside its pipeline, and what public trainers get wrong about it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families import wan_animate
from spark_trainer.families.kinds.diffusion import Tensors
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.wan_animate import Draws, WanAnimate

from . import tiny_pipelines
from .conftest import clip
from .parity import (
    BOTH,
    GUIDANCE,
    MANY,
    SIZE,
    Call,
    between_steps,
    ours,
    recorded,
    same,
    seeded,
    upstream,
)

FAMILY = WanAnimate()
TAKES_ADAPTERS = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.wan_animate(tmp_path_factory.mktemp("wan_animate"))


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return FAMILY.load(str(folder), LoadOptions())


def material(number: int, frames: int = 9, replace: bool = False) -> Sample:
    """A clip of noise for Wan-Animate, its faces already of the motion encoder's size."""

    def video(offset: int, size: tuple[int, int] = SIZE) -> tuple[Image.Image, ...]:
        return clip(100 * number + offset, "", frames=frames, size=size).images

    masks = []
    for frame in range(frames):  # a person who walks to the right
        mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
        mask[8:24, 2 * frame : 2 * frame + 16] = 255
        masks.append(Image.fromarray(mask))
    conditions = {"reference": video(1)[:1], "pose": video(2), "face": video(3, (16, 16))}
    if replace:
        conditions |= {"background": video(4), "mask": tuple(masks)}
    text = f"person {number} dances"
    return dataclasses.replace(clip(number, text), images=video(0), conditions=conditions)


def parity(loaded: Loaded, pipe: Any, mode: str = "animate", guidance_frames: int = 0) -> None:
    """With guidance frames the second of two segments is looked at, which continues the first."""
    frames, overlap = (13, 5) if guidance_frames == 5 else (9, 1)
    shown = material(1, frames, replace=mode == "replace")
    first = material(2, frames, replace=mode == "replace")  # whose last frames are the next's first
    segments = [first, shown] if guidance_frames else [shown]
    if guidance_frames:
        together = first.images[-overlap:] + shown.images[overlap:]
        shown = dataclasses.replace(shown, images=together)
    encoded = tiny_pipelines.encoded(FAMILY, loaded, shown, SIZE, guidance_frames)
    batch = FAMILY.collate([encoded, encoded])

    def long(field: str) -> list[Image.Image]:
        """What both segments are told, the later one where they overlap."""
        videos = [segment.conditions[field] for segment in segments]
        if len(videos) == 1:
            return list(videos[0])
        return [*videos[0][:-overlap], *videos[1]]

    pipe.scheduler.set_timesteps(3)
    sigma = pipe.scheduler.sigmas[1]
    clean = torch.cat([encoded["reference"][4:], encoded["latents"]], dim=1)[None]
    noise = torch.randn(clean.shape, generator=seeded(5)[0])
    latents = (1 - sigma) * clean + sigma * noise
    if guidance_frames:
        made = pipe.video_processor.preprocess_video(list(first.images))
        pipe.vae.decode = lambda *args, **kwargs: (made,)
    surroundings = (
        {"background_video": long("background"), "mask_video": long("mask")}
        if mode == "replace"
        else {}
    )
    run = lambda: pipe(  # noqa: E731
        image=shown.conditions["reference"][0],
        pose_video=long("pose"),
        face_video=long("face"),
        prompt=shown.answer,
        mode=mode,
        height=SIZE[1],
        width=SIZE[0],
        segment_frame_length=frames,
        prev_segment_conditioning_frames=overlap,
        num_inference_steps=3,
        guidance_scale=GUIDANCE,
        output_type="pt",
        callback_on_step_end=between_steps(latents.clone),
        **surroundings,
    )
    calls = recorded(pipe.transformer, run)
    assert len(calls) == 6 * len(segments)
    conditional, unconditional = calls[-4:-2]
    draws = Draws(noise.expand(2, -1, -1, -1, -1), sigma.expand(2), BOTH)
    arguments, output = ours(loaded, FAMILY, batch, draws)
    for row, call in ((1, conditional), (0, unconditional)):
        given = dict(call.arguments)
        assert given.pop("motion_encode_batch_size", None) is None
        one = {name: value[row : row + 1] for name, value in arguments.items()}
        same(Call(given, call.output), one, output[row : row + 1])


def formula(loaded: Loaded, batch: Tensors, draws: Any, output: np.ndarray) -> np.ndarray:
    """Lipman et al. 2022, equation 23 with the paths turned round: from data at 0 to noise at 1."""
    x0 = np.concatenate([batch["reference"][:, 4:].numpy(), batch["latents"].numpy()], axis=2)
    return ((output - (draws.noise_BCTHW.double().numpy() - x0)) ** 2).mean((1, 2, 3, 4))


def autoencoded(pipe: Any, pixels_SCHW: torch.Tensor) -> torch.Tensor:
    modes = pipe.vae.encode(pixels_SCHW.transpose(0, 1)[None]).latent_dist.mode()
    return pipe.vae.decode(modes).sample[0]


def scaling(pipe: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the VAE's latents, as a piece of the pipeline's `__call__`."""
    mean, std = (
        torch.tensor(pipe.vae.config[key]).reshape(1, -1, 1, 1, 1)
        for key in ("latents_mean", "latents_std")
    )
    return mean, std


def decoded(pipe: Any, latents: torch.Tensor) -> torch.Tensor:
    mean, std = scaling(pipe)
    return pipe.vae.decode(latents * std + mean).sample[0]


def trained(saved: Path, folder: Path) -> dict[str, Any]:
    network = diffusers.WanAnimateTransformer3DModel.from_pretrained(saved / "transformer")
    return {"transformer": network}


def has_adapters(layers: set[str]) -> None:
    assert all(layer.startswith("blocks.") for layer in layers)
    assert {"blocks.1.ffn.net.0.proj", "blocks.1.ffn.net.2"} <= layers
    assert len(layers) == 2 * 10


@pytest.mark.parametrize("mode", ["animate", "replace"])
@pytest.mark.parametrize("guidance_frames", wan_animate.GUIDANCE_FRAMES)
def test_it_is_called_as_by_the_pipeline_in_every_mode(
    mode: str, guidance_frames: int, loaded: Loaded, folder: Path
) -> None:
    parity(loaded, upstream(folder), mode, guidance_frames)


def test_the_reference_is_a_frame_of_its_own(loaded: Loaded) -> None:
    """The video is encoded without it, so that video and skeletons stand under each other."""
    pipe, shown = loaded.processor, material(1)
    encoded = tiny_pipelines.encoded(FAMILY, loaded, shown, SIZE)
    batch = FAMILY.collate([encoded])
    draws = Draws(
        torch.zeros(1, 16, 4, 4, 6), torch.zeros(1), torch.tensor([False])
    )  # nothing noised: the network sees x0
    arguments = FAMILY.arguments(loaded, batch, draws)
    seen = arguments["hidden_states"][:, :16]
    assert seen.shape[2] == arguments["pose_hidden_states"].shape[2] + 1 == 4
    mean, std = scaling(pipe)

    def alone(images: Sequence[Image.Image]) -> torch.Tensor:
        pixels = pipe.video_processor.preprocess_video(list(images))
        with torch.no_grad():
            return (pipe.vae.encode(pixels).latent_dist.mode() - mean) / std

    torch.testing.assert_close(seen[:, :, :1], alone([shown.conditions["reference"][0]]))
    torch.testing.assert_close(seen[:, :, 1:], alone(shown.images))
    torch.testing.assert_close(arguments["pose_hidden_states"], alone(shown.conditions["pose"]))
    shifted = alone([shown.conditions["reference"][0], *shown.images[:-1]])  # the wrong way
    assert shifted.shape[2] == 3
    with pytest.raises(ValueError, match="must be one less"):
        loaded.model(**{**arguments, "hidden_states": arguments["hidden_states"][:, :, :3]})
    assert not torch.isclose(seen[:, :, 1], shifted[:, :, 1]).all()


def test_masks_fold_four_frames_into_channels(loaded: Loaded) -> None:
    """The first frame four times, then four frames a latent; 1 where the background is kept."""
    shown = material(1, replace=True)
    mask = FAMILY.encode(loaded, shown, SIZE, 0)["given"][:4].numpy()
    person = np.stack([np.asarray(image)[::8, ::8] / 255 for image in shown.conditions["mask"]])
    expected = np.concatenate([np.repeat(1 - person[:1], 4, axis=0), 1 - person[1:]])
    np.testing.assert_allclose(mask, expected.reshape(3, 4, 4, 6).transpose(1, 0, 2, 3))
    assert not FAMILY.encode(loaded, material(1), SIZE, 0)["given"][:4].any()
    one = FAMILY.encode(loaded, material(1), SIZE, 1)["given"][:4]
    five = FAMILY.encode(loaded, material(1), SIZE, 5)["given"][:4]
    assert one[:, :1].all()
    assert not one[:, 1:].any()
    assert five[:, :2].all()
    assert not five[:, 2:].any()


def test_a_video_of_which_nothing_is_given_is_encoded_once(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the size stays; bit by bit what the VAE makes of zeros."""
    pipe, encode, calls = loaded.processor, loaded.processor.vae.encode, []
    monkeypatch.setattr(pipe.vae, "encode", lambda x: calls.append(x.shape) or encode(x))
    wan_animate._nothing_given.cache_clear()
    first, again = (FAMILY.encode(loaded, material(seed), SIZE, 0) for seed in (1, 2))
    assert len(calls) == 4 + 3  # video, reference, pose, and what is given
    assert again["given"].equal(first["given"])
    zeros = torch.zeros(1, 3, len(material(1).images), SIZE[1], SIZE[0])
    mean, std = scaling(pipe)
    with torch.no_grad():
        expected = (encode(zeros).latent_dist.mode() - mean) * (1 / std)
    assert first["given"][4:].equal(expected[0])
    assert not FAMILY.encode(loaded, material(2), SIZE, 1)["given"].equal(first["given"])


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("guidance_frames", wan_animate.GUIDANCE_FRAMES)
def test_a_clip_is_encoded_where_the_encoders_are(
    loaded: Loaded, guidance_frames: int, replace: bool
) -> None:
    """Upstream's pipeline moves only some of what it is given."""
    with tiny_pipelines.on_a_fake_gpu(loaded):
        encoded = FAMILY.encode(loaded, material(1, replace=replace), SIZE, guidance_frames)
    assert {value.device.type for value in encoded.values()} == {"cpu"}


def test_chances(loaded: Loaded) -> None:
    batch = {"latents": torch.zeros(MANY, 1, 1, 1, 1), "reference": torch.zeros(MANY, 5, 1, 1, 1)}
    draws = FAMILY.draw(loaded, batch, seeded(*range(MANY)))
    assert 0 < draws.sigma_B.min() < 0.05
    assert draws.sigma_B.max() <= 1
    scheduler = loaded.processor.scheduler
    scheduler.set_timesteps(20)
    exact = Draws(draws.noise_BCTHW, scheduler.sigmas[:20], draws.drop_B)
    assert wan_animate._timesteps(loaded, exact).equal(scheduler.timesteps)
    whole = Draws(draws.noise_BCTHW, torch.ones(1), draws.drop_B)
    assert wan_animate._timesteps(loaded, whole).item() == scheduler.timesteps[0] == 999
    assert float(draws.sigma_B.median()) == pytest.approx(5 / 6, abs=0.02)  # of 0.5, shifted by 5
    assert float(draws.drop_B.double().mean()) == pytest.approx(0.1, abs=0.02)


def test_clips_that_cant_be_used(loaded: Loaded) -> None:
    with pytest.raises(Unusable, match=r"expected as many of each, 4k \+ 1"):
        FAMILY.encode(loaded, material(1, 8), SIZE)
    with pytest.raises(ValueError, match=r"expected sides divisible by 16"):
        FAMILY.encode(loaded, material(1), (40, 32))
    with pytest.raises(ValueError, match=r"guidance_frames: 2; expected one of"):
        FAMILY.encode(loaded, material(1), SIZE, 2)
