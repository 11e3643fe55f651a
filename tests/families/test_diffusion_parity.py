"""What the diffusion families train is what upstream's pipelines run, on tiny random ones.

Each pipeline makes a video while its calls of the network are recorded; between two steps it is
given latents made here from a clip, noise and a noise level. From the same clip, noise and level
the family has to arrive at the very same call.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image

from spark_trainer import families, pipelines
from spark_trainer.config import Run
from spark_trainer.data.sample import Sample, Unusable
from spark_trainer.families import Batch, Loaded, Wanted, animatediff, svd, wan_animate
from spark_trainer.train import optim

from . import tiny_pipelines
from .conftest import clip

SIZE = (48, 32)
FAMILIES = {"svd": svd, "animatediff": animatediff, "wan_animate": wan_animate}
NETWORKS = {"svd": "unet", "animatediff": "unet", "wan_animate": "transformer"}
FIRST_SIGMA = 0.05
GUIDANCE = 3.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: getattr(tiny_pipelines, name)(tmp_path_factory.mktemp(name)) for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def family(name: str) -> ModuleType:
    return FAMILIES[name]


@pytest.fixture
def folder(name: str, folders: dict[str, Path]) -> Path:
    return folders[name]


@pytest.fixture
def loaded(family: ModuleType, folder: Path) -> Loaded:
    return family.load(str(folder), Wanted())


def upstream(folder: Path, **components: Any) -> Any:
    """The pipeline as a user loads it."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, use_safetensors=True, **components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def dance(number: int, frames: int = 9, replace: bool = False) -> Sample:
    """A clip of noise for Wan-Animate, its faces already of the motion encoder's size."""

    def video(offset: int, size: tuple[int, int] = SIZE) -> tuple[Image.Image, ...]:
        return clip(100 * number + offset, "", frames=frames, size=size).images

    masks = []
    for frame in range(frames):  # a person who walks to the right
        mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
        mask[8:24, 2 * frame : 2 * frame + 16] = 255
        masks.append(Image.fromarray(mask))
    beside = {"reference": video(1)[:1], "pose": video(2), "face": video(3, (16, 16))}
    if replace:
        beside |= {"background": video(4), "mask": tuple(masks)}
    text = f"person {number} dances"
    return dataclasses.replace(clip(number, text), images=video(0), beside=beside)


def material(name: str, number: int) -> Any:
    if name == "wan_animate":
        return dance(number)
    return clip(number, f"dog {number} runs", frames=4, size=SIZE)


def batch_of(family: ModuleType, loaded: Loaded, clips: Sequence[Any]) -> Batch:
    return family.collate([tiny_pipelines.encoded(family, loaded, one, SIZE) for one in clips])


@dataclass(frozen=True)
class Call:
    """One call of the network by a pipeline."""

    arguments: dict[str, Any]
    output: torch.Tensor


def recorded(network: Any, run: Callable[[], Any]) -> list[Call]:
    calls = []
    names = inspect.signature(network.forward)

    def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        given = names.bind(*args, **kwargs).arguments
        calls.append(Call({k: v for k, v in given.items() if v is not None}, output[0].clone()))

    handle = network.register_forward_hook(note, with_kwargs=True)
    run()
    handle.remove()
    return calls


def between_steps(latents: Callable[[], torch.Tensor]) -> Callable[..., dict[str, Any]]:
    """Puts these latents in place of the pipeline's own after each step."""
    return lambda pipe, step, timestep, values: {**values, "latents": latents()}


def same(call: Call, arguments: dict[str, Any], output: torch.Tensor) -> None:
    """The pipeline gave the network what we give it, and it said the same."""
    given = dict(call.arguments)
    assert given.pop("return_dict", False) is False
    assert given.keys() == arguments.keys()
    for name, value in given.items():
        expected = value.expand(len(arguments[name])) if value.ndim == 0 else value
        message = f"{name}: {{}}".format
        torch.testing.assert_close(
            arguments[name].float(), expected.float(), atol=1e-5, rtol=1e-5, msg=message
        )
    torch.testing.assert_close(output, call.output, atol=1e-5, rtol=1e-5)


def ours(loaded: Loaded, family: ModuleType, batch: Batch, draws: Any) -> tuple[Any, torch.Tensor]:
    arguments = family.arguments(loaded, batch, draws)
    with torch.no_grad():
        return arguments, loaded.model(**arguments, return_dict=False)[0]


# The pipelines guide: they call the network with and without the conditions at once, which are a
# batch of the same sample with the conditions dropped and kept.
BOTH = torch.tensor([True, False])


def svd_parity(loaded: Loaded, pipe: Any) -> None:
    sample = clip(1, "", frames=4, size=SIZE)
    bucket = svd.motion_bucket(sample.images)
    assert bucket != 127
    batch = batch_of(svd, loaded, [sample, sample])
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
    draws = svd.Draws(
        noise_BTCHW=noise.expand(2, -1, -1, -1, -1),
        sigma_B=sigma.expand(2),
        first_noise_BCHW=torch.randn(1, 3, *SIZE[::-1], generator=seeded(6)[0]).expand(
            2, -1, -1, -1
        ),
        first_sigma_B=torch.full((2,), FIRST_SIGMA),
        drop_image_B=BOTH,
        drop_first_B=BOTH,
    )
    same(call, *ours(loaded, svd, batch, draws))


def animatediff_parity(loaded: Loaded, pipe: Any) -> None:
    sample = clip(1, "a dog runs", frames=4, size=SIZE)
    batch = batch_of(animatediff, loaded, [sample, sample])
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
    draws = animatediff.Draws(noise.expand(2, -1, -1, -1, -1), timestep.expand(2), BOTH)
    same(call, *ours(loaded, animatediff, batch, draws))


def wan_animate_parity(
    loaded: Loaded, pipe: Any, mode: str = "animate", guidance_frames: int = 0
) -> None:
    """With guidance frames the second of two segments is looked at, which continues the first."""
    frames, overlap = (13, 5) if guidance_frames == 5 else (9, 1)
    shown = dance(1, frames, replace=mode == "replace")
    first = dance(2, frames, replace=mode == "replace")  # whose last frames are the next's first
    segments = [first, shown] if guidance_frames else [shown]
    if guidance_frames:
        together = first.images[-overlap:] + shown.images[overlap:]
        shown = dataclasses.replace(shown, images=together)
    encoded = tiny_pipelines.encoded(wan_animate, loaded, shown, SIZE, guidance_frames)
    batch = wan_animate.collate([encoded, encoded])

    def long(field: str) -> list[Image.Image]:
        """What both segments are told, the later one where they overlap."""
        videos = [segment.beside[field] for segment in segments]
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
        image=shown.beside["reference"][0],
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
    draws = wan_animate.Draws(noise.expand(2, -1, -1, -1, -1), sigma.expand(2), BOTH)
    arguments, output = ours(loaded, wan_animate, batch, draws)
    for row, call in ((1, conditional), (0, unconditional)):
        given = dict(call.arguments)
        assert given.pop("motion_encode_batch_size", None) is None
        one = {name: value[row : row + 1] for name, value in arguments.items()}
        same(Call(given, call.output), one, output[row : row + 1])


PARITY = {"svd": svd_parity, "animatediff": animatediff_parity, "wan_animate": wan_animate_parity}


def test_the_network_is_called_as_by_the_pipeline(name: str, loaded: Loaded, folder: Path) -> None:
    PARITY[name](loaded, upstream(folder))


@pytest.mark.parametrize("mode", ["animate", "replace"])
@pytest.mark.parametrize("guidance_frames", wan_animate.GUIDANCE_FRAMES)
def test_wan_is_called_as_by_the_pipeline_in_every_mode(
    mode: str, guidance_frames: int, folders: dict[str, Path]
) -> None:
    loaded = wan_animate.load(str(folders["wan_animate"]), Wanted())
    wan_animate_parity(loaded, upstream(folders["wan_animate"]), mode, guidance_frames)


def test_the_pipelines_other_scheduler_settings_are_followed(tmp_path: Path) -> None:
    """A v-predicting AnimateDiff over scaled betas, whose last timestep is all noise."""
    folder = tiny_pipelines.animatediff(tmp_path, "v_prediction")
    config = diffusers.DDIMScheduler.load_config(folder / "scheduler")
    config |= {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}
    diffusers.DDIMScheduler.from_config(config).save_pretrained(folder / "scheduler")
    loaded = animatediff.load(str(folder), Wanted())
    animatediff_parity(loaded, upstream(folder))
    batch = batch_of(animatediff, loaded, [material("animatediff", 1)])
    draws = animatediff.draw(loaded, batch, seeded(3))
    _, output = ours(loaded, animatediff, batch, draws)
    x = loaded.processor.scheduler.add_noise(batch["latents"], draws.noise_BCFHW, draws.timestep_B)
    velocity = loaded.processor.scheduler.get_velocity(
        batch["latents"], draws.noise_BCFHW, draws.timestep_B
    )
    torch.testing.assert_close(animatediff.arguments(loaded, batch, draws)["sample"], x)
    expected = (output - velocity).square().mean()[None]
    torch.testing.assert_close(animatediff.losses(loaded, loaded.model, batch, seeded(3)), expected)


def decoded(name: str, pipe: Any, encoded: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the pipeline makes of latents, (C, T, H, W) from -1 to 1."""
    latents = encoded["latents"][None]
    with torch.no_grad():
        if name == "wan_animate":  # its decoding is a piece of __call__
            mean, std = (
                torch.tensor(pipe.vae.config[key]).reshape(1, -1, 1, 1, 1)
                for key in ("latents_mean", "latents_std")
            )
            return pipe.vae.decode(latents * std + mean).sample[0]
        options = {"num_frames": 4} if name == "svd" else {}
        return pipe.decode_latents(latents, **options)[0]


def test_latents_are_scaled_as_the_pipeline_decodes_them(
    name: str, family: ModuleType, loaded: Loaded, folder: Path
) -> None:
    pipe, shown = upstream(folder), material(name, 1)
    images = shown.images
    pixels = pipe.video_processor.preprocess(list(images))
    with torch.no_grad():
        if name == "wan_animate":
            video = pixels.transpose(0, 1)[None]
            expected = pipe.vae.decode(pipe.vae.encode(video).latent_dist.mode()).sample[0]
        else:
            options = {"num_frames": 4} if name == "svd" else {}
            modes = pipe.vae.encode(pixels).latent_dist.mode()
            expected = pipe.vae.decode(modes, **options).sample.transpose(0, 1)
    made = decoded(name, pipe, family.encode(loaded, shown, SIZE))
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


def svd_formula(loaded: Loaded, batch: Batch, draws: Any, output: np.ndarray) -> np.ndarray:
    """Karras et al. 2022, equations 2, 7 and 8 with the weighting (σ² + 1) / σ²."""
    x0, noise = batch["latents"].double().numpy(), draws.noise_BTCHW.double().numpy()
    sigma = draws.sigma_B.double().numpy().reshape(-1, 1, 1, 1, 1)
    x = x0 + sigma * noise
    denoised = x / (sigma**2 + 1) - sigma / np.sqrt(sigma**2 + 1) * output
    return ((sigma**2 + 1) / sigma**2 * (denoised - x0) ** 2).mean((1, 2, 3, 4))


def animatediff_formula(loaded: Loaded, batch: Batch, draws: Any, output: np.ndarray) -> np.ndarray:
    """Ho et al. 2020, equation 14."""
    return ((draws.noise_BCFHW.double().numpy() - output) ** 2).mean((1, 2, 3, 4))


def wan_animate_formula(loaded: Loaded, batch: Batch, draws: Any, output: np.ndarray) -> np.ndarray:
    """Lipman et al. 2022, equation 23 with the paths turned round: from data at 0 to noise at 1."""
    x0 = np.concatenate([batch["reference"][:, 4:].numpy(), batch["latents"].numpy()], axis=2)
    return ((output - (draws.noise_BCTHW.double().numpy() - x0)) ** 2).mean((1, 2, 3, 4))


FORMULA = {
    "svd": svd_formula,
    "animatediff": animatediff_formula,
    "wan_animate": wan_animate_formula,
}


def test_the_loss_is_the_papers(name: str, family: ModuleType, loaded: Loaded) -> None:
    batch = batch_of(family, loaded, [material(name, 1), material(name, 2)])
    losses = family.losses(loaded, loaded.model, batch, seeded(1, 2))
    draws = family.draw(loaded, batch, seeded(1, 2))
    _, output = ours(loaded, family, batch, draws)
    expected = FORMULA[name](loaded, batch, draws, output.double().numpy())
    assert losses.shape == (2,)
    np.testing.assert_allclose(losses.detach().numpy(), expected, rtol=1e-4)


def test_a_samples_loss_depends_on_its_own_seed_alone(
    name: str, family: ModuleType, loaded: Loaded
) -> None:
    batch = batch_of(family, loaded, [material(name, 1), material(name, 2)])
    alone = batch_of(family, loaded, [material(name, 2)])
    with torch.no_grad():
        together = family.losses(loaded, loaded.model, batch, seeded(1, 2))
        again = family.losses(loaded, loaded.model, batch, seeded(1, 2))
        one = family.losses(loaded, loaded.model, alone, seeded(2))
        other = family.losses(loaded, loaded.model, alone, seeded(3))
    assert together.equal(again)
    torch.testing.assert_close(together[1:], one, atol=1e-5, rtol=1e-5)
    assert not torch.isclose(one, other)


def test_gradients_are_where_they_should_be(name: str, family: ModuleType, loaded: Loaded) -> None:
    optim.freeze(family, loaded.model, Run())
    loaded.model.train()
    batch = batch_of(family, loaded, [material(name, 1), material(name, 2)])
    family.losses(loaded, loaded.model, batch, seeded(1, 2)).sum().backward()
    for parameter_name, parameter in loaded.model.named_parameters():
        part = families.part(family, parameter_name)
        assert parameter.requires_grad == (part not in family.FROZEN), parameter_name
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
    trained = [(n, p) for n, p in loaded.model.named_parameters() if p.requires_grad]
    assert trained
    idle = [n for n, p in trained if not p.grad.abs().sum()]
    assert not idle
    for part in loaded.processor.components.values():
        if isinstance(part, torch.nn.Module) and part is not loaded.model:
            assert all(p.grad is None for p in part.parameters())


def test_it_learns(name: str, family: ModuleType, loaded: Loaded) -> None:
    """The default parts alone bring the loss of a fixed noise down."""
    optim.freeze(family, loaded.model, Run())
    trained = [p for p in loaded.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    batch = batch_of(family, loaded, [material(name, 1)])
    seen = []
    for _ in range(8):
        loss = family.losses(loaded, loaded.model, batch, seeded(1)).mean()
        seen.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert seen[-1] < 0.85 * seen[0], seen


def changed(loaded: Loaded) -> None:
    """Other weights wherever there is something to train."""
    generator = seeded(9)[0]
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)


def trained_components(name: str, saved: Path, folder: Path) -> dict[str, Any]:
    """What a user puts into the pipeline."""
    if name == "svd":
        unet = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(saved / "unet")
        return {"unet": unet}
    if name == "animatediff":
        unet = diffusers.UNetMotionModel.from_pretrained(folder / "unet")
        adapter = diffusers.MotionAdapter.from_pretrained(saved / "motion_adapter")
        unet.load_motion_modules(adapter)
        return {"unet": unet, "motion_adapter": adapter}
    transformer = diffusers.WanAnimateTransformer3DModel.from_pretrained(saved / "transformer")
    return {"transformer": transformer}


def test_what_is_saved_runs_in_the_pipeline(
    name: str, family: ModuleType, loaded: Loaded, folder: Path, tmp_path: Path
) -> None:
    optim.freeze(family, loaded.model, Run())
    changed(loaded)
    family.save(loaded.model, tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    pipe = upstream(folder, **trained_components(name, tmp_path, folder))
    PARITY[name](loaded, pipe)
    with pytest.raises(AssertionError):
        PARITY[name](loaded, upstream(folder))


def test_a_whole_trained_animatediff_is_saved_too(folders: dict[str, Path], tmp_path: Path) -> None:
    loaded = animatediff.load(str(folders["animatediff"]), Wanted())
    optim.freeze(animatediff, loaded.model, Run(freeze=()))
    changed(loaded)
    animatediff.save(loaded.model, tmp_path)
    unet = diffusers.UNetMotionModel.from_pretrained(tmp_path / "unet")
    animatediff_parity(loaded, upstream(folders["animatediff"], unet=unet))


def test_samples_are_the_pipelines_own(
    name: str, family: ModuleType, loaded: Loaded, folder: Path
) -> None:
    loaded.model.requires_grad_(True)
    changed(loaded)
    shown = material(name, 1)
    frames = family.sample(loaded, loaded.model, shown, SIZE, 2, seeded(4)[0])
    assert len(frames) == len(shown.images)
    assert {frame.size for frame in frames} == {SIZE}
    assert all(isinstance(frame, Image.Image) for frame in frames)
    again = family.sample(loaded, loaded.model, shown, SIZE, 2, seeded(4)[0])
    assert [frame.tobytes() for frame in frames] == [frame.tobytes() for frame in again]
    before = family.load(str(folder), Wanted())
    untrained = family.sample(before, before.model, shown, SIZE, 2, seeded(4)[0])
    assert [frame.tobytes() for frame in frames] != [frame.tobytes() for frame in untrained]


def adapted(family: ModuleType, loaded: Loaded) -> Any:
    """The network with adapters that do something."""
    config = LoraConfig(r=2, lora_alpha=6, target_modules=family.LORA_TARGETS)
    model = inject_adapter_in_model(config, loaded.model)
    generator = seeded(9)[0]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def test_low_rank_adapters_run_in_the_pipeline(
    name: str, family: ModuleType, loaded: Loaded, folder: Path, tmp_path: Path
) -> None:
    model = adapted(family, loaded)
    if name == "svd":
        with pytest.raises(ValueError, match=r"train\.save: .* loads no adapter; expected merged"):
            pipelines.save_adapter(loaded, NETWORKS[name], model, tmp_path)
    else:
        pipelines.save_adapter(loaded, NETWORKS[name], model, tmp_path / "adapter")
        assert [file.suffix for file in (tmp_path / "adapter").iterdir()] == [".safetensors"]
        pipe = upstream(folder)
        pipe.load_lora_weights(tmp_path / "adapter")
        PARITY[name](loaded, pipe)
    with pytest.raises(AssertionError):
        PARITY[name](loaded, upstream(folder))
    batch = batch_of(family, loaded, [material(name, 1)])
    with torch.no_grad():
        before = family.losses(loaded, model, batch, seeded(1))
        pipelines.merge(model)
        after = family.losses(loaded, model, batch, seeded(1))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)
    assert model.state_dict().keys() == family.load(str(folder), Wanted()).model.state_dict().keys()
    family.save(model, tmp_path)
    PARITY[name](loaded, upstream(folder, **trained_components(name, tmp_path, folder)))


def test_low_rank_adapters_find_their_layers(name: str, family: ModuleType, loaded: Loaded) -> None:
    config = LoraConfig(r=2, target_modules=family.LORA_TARGETS)
    model = inject_adapter_in_model(config, loaded.model)
    layers = {n.split(".lora_A")[0] for n, _ in model.named_modules() if n.endswith("lora_A")}
    assert {name.rsplit(".", 1)[-1] for name in layers} >= {"to_q", "to_k", "to_v", "0"}
    if name == "wan_animate":
        assert all(layer.startswith("blocks.") for layer in layers)
        assert {"blocks.1.ffn.net.0.proj", "blocks.1.ffn.net.2"} <= layers
        assert len(layers) == 2 * 10
    if name == "animatediff":
        assert all(".motion_modules." in layer for layer in layers)


def test_another_pipeline_is_refused(
    name: str, family: ModuleType, folders: dict[str, Path]
) -> None:
    other = folders["svd" if name != "svd" else "animatediff"]
    with pytest.raises(ValueError, match=rf"train\.model_name: .* expected a {family.PIPELINE}"):
        family.load(str(other), Wanted())


def test_pickled_weights_are_refused(
    name: str, family: ModuleType, folder: Path, tmp_path: Path
) -> None:
    network = NETWORKS[name]
    for path in folder.rglob("*"):
        weights = path.parent.name == network and path.suffix == ".safetensors"
        if path.is_file() and not weights:
            copy = tmp_path / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    torch.save({}, tmp_path / network / "diffusion_pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        family.load(str(tmp_path), Wanted())


def test_precision_is_the_networks_alone(name: str, family: ModuleType, folder: Path) -> None:
    loaded = family.load(str(folder), Wanted(dtype=torch.bfloat16))
    assert loaded.model.dtype == torch.bfloat16
    components = loaded.processor.components.items()
    others = {n: c.dtype for n, c in components if n != "vae" and isinstance(c, torch.nn.Module)}
    assert set(others.values()) == {torch.bfloat16}
    assert loaded.processor.vae.dtype == torch.float32
    batch = batch_of(family, loaded, [material(name, 1)])
    losses = family.losses(loaded, loaded.model, batch, seeded(1))
    assert losses.dtype == torch.float32
    exact = family.load(str(folder), Wanted())
    expected = family.losses(exact, exact.model, batch, seeded(1))
    torch.testing.assert_close(losses, expected, atol=0.02, rtol=0.02)


def test_the_first_frame_is_encoded_exactly_under_autocast(folders: dict[str, Path]) -> None:
    loaded = svd.load(str(folders["svd"]), Wanted())
    batch = batch_of(svd, loaded, [material("svd", 1)])
    draws = svd.draw(loaded, batch, seeded(1))
    exact = svd.arguments(loaded, batch, draws)["sample"]
    with torch.autocast("cpu", torch.bfloat16):
        assert svd.arguments(loaded, batch, draws)["sample"].equal(exact)


def test_gradient_checkpointing_gives_the_same_gradients(
    name: str, family: ModuleType, folder: Path
) -> None:
    found = []
    for checkpointing in (False, True):
        loaded = family.load(str(folder), Wanted())
        optim.freeze(family, loaded.model, Run())
        if checkpointing:
            loaded.model.enable_gradient_checkpointing()
        loaded.model.train()
        batch = batch_of(family, loaded, [material(name, 1)])
        family.losses(loaded, loaded.model, batch, seeded(1)).sum().backward()
        grads = {n: p.grad for n, p in loaded.model.named_parameters() if p.grad is not None}
        found.append(grads)
    assert found[0].keys() == found[1].keys()
    for parameter_name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][parameter_name], atol=1e-5, rtol=1e-3)


def test_from_scratch_forgets(name: str, family: ModuleType, loaded: Loaded, folder: Path) -> None:
    torch.manual_seed(1)
    fresh = family.load(str(folder), Wanted(from_scratch=True))
    assert getattr(fresh.processor, NETWORKS[name]) is fresh.model
    known = loaded.model.state_dict()
    moving = family.PARTS.get("motion")
    for key, value in fresh.model.state_dict().items():
        if moving and families.part(family, key) == "image":
            assert value.equal(known[key]), key
        elif value.ndim > 1 and known[key].std() > 0 and "pos_embed" not in key:
            assert not value.equal(known[key]), key


def test_fresh_motion_modules_change_nothing(folders: dict[str, Path]) -> None:
    """All frames of a still clip stay alike, as the image model would make each of them."""
    loaded = animatediff.load(str(folders["animatediff"]), Wanted(from_scratch=True))
    x_BCFHW = torch.randn(1, 4, 1, 16, 24, generator=seeded(1)[0]).expand(-1, -1, 3, -1, -1)
    text_BLD = torch.randn(3, 77, 32, generator=seeded(2)[0])[:1].expand(3, -1, -1)
    with torch.no_grad():
        said = loaded.model(x_BCFHW, torch.tensor([10]), text_BLD).sample
    torch.testing.assert_close(said[:, :, 0], said[:, :, 2])


# What public trainers get wrong.


def test_each_clip_has_its_own_rate_motion_and_noise(folders: dict[str, Path]) -> None:
    """Not 7 frames a second, not a motion of 127, not one noise on the first frames of a batch."""
    loaded = svd.load(str(folders["svd"]), Wanted())
    fast = clip(1, "", frames=4, size=SIZE)
    image = clip(2, "", frames=1, size=SIZE).images[0]
    still = Sample("b", (image,) * 4, (0.0, 0.1, 0.2, 0.3), None, "")
    batch = batch_of(svd, loaded, [fast, still])
    draws = svd.draw(loaded, batch, seeded(1, 2))
    told = svd.arguments(loaded, batch, draws)["added_time_ids"]
    torch.testing.assert_close(told[:, 0], torch.tensor([1.0, 9.0]))
    assert told[0, 1] == svd.motion_bucket(fast.images) > 1
    assert told[1, 1] == 1
    assert told[0, 2] != told[1, 2]
    assert told[:, 2].equal(draws.first_sigma_B)


def test_noise_on_the_first_frame_is_what_the_network_is_told(folders: dict[str, Path]) -> None:
    """Another strength changes the conditioning latents, from the same bytes that were kept."""
    loaded = svd.load(str(folders["svd"]), Wanted())
    batch = batch_of(svd, loaded, [material("svd", 1)])
    draws = svd.draw(loaded, batch, seeded(1))
    keep = torch.tensor([False])
    seen = []
    for strength in (0.0, 0.5):
        values = {**vars(draws), "first_sigma_B": torch.tensor([strength]), "drop_first_B": keep}
        seen.append(svd.arguments(loaded, batch, svd.Draws(**values))["sample"][:, :, 4:])
    assert not seen[0].equal(seen[1])
    clean = loaded.processor.vae.encode(
        loaded.processor.video_processor.preprocess(material("svd", 1).images[0])
    ).latent_dist.mode()  # neither scaled nor noised
    torch.testing.assert_close(seen[0], clean[:, None].expand_as(seen[0]), atol=1e-5, rtol=1e-5)


def test_wans_reference_is_a_frame_of_its_own(folders: dict[str, Path]) -> None:
    """The video is encoded without it, so that video and skeletons stand under each other."""
    loaded = wan_animate.load(str(folders["wan_animate"]), Wanted())
    pipe, shown = loaded.processor, dance(1)
    encoded = tiny_pipelines.encoded(wan_animate, loaded, shown, SIZE)
    batch = wan_animate.collate([encoded])
    draws = wan_animate.Draws(
        torch.zeros(1, 16, 4, 4, 6), torch.zeros(1), torch.tensor([False])
    )  # nothing noised: the network sees x0
    arguments = wan_animate.arguments(loaded, batch, draws)
    seen = arguments["hidden_states"][:, :16]
    assert seen.shape[2] == arguments["pose_hidden_states"].shape[2] + 1 == 4
    mean, std = (
        torch.tensor(pipe.vae.config[key]).reshape(1, 16, 1, 1, 1)
        for key in ("latents_mean", "latents_std")
    )

    def alone(images: Sequence[Image.Image]) -> torch.Tensor:
        pixels = pipe.video_processor.preprocess_video(list(images))
        with torch.no_grad():
            return (pipe.vae.encode(pixels).latent_dist.mode() - mean) / std

    torch.testing.assert_close(seen[:, :, :1], alone([shown.beside["reference"][0]]))
    torch.testing.assert_close(seen[:, :, 1:], alone(shown.images))
    torch.testing.assert_close(arguments["pose_hidden_states"], alone(shown.beside["pose"]))
    shifted = alone([shown.beside["reference"][0], *shown.images[:-1]])  # the wrong way
    assert shifted.shape[2] == 3
    with pytest.raises(ValueError, match="must be one less"):
        loaded.model(**{**arguments, "hidden_states": arguments["hidden_states"][:, :, :3]})
    assert not torch.isclose(seen[:, :, 1], shifted[:, :, 1]).all()


def test_wans_masks_fold_four_frames_into_channels(folders: dict[str, Path]) -> None:
    """The first frame four times, then four frames a latent; 1 where the background is kept."""
    loaded = wan_animate.load(str(folders["wan_animate"]), Wanted())
    shown = dance(1, replace=True)
    mask = wan_animate.encode(loaded, shown, SIZE, 0)["given"][:4].numpy()
    person = np.stack([np.asarray(image)[::8, ::8] / 255 for image in shown.beside["mask"]])
    expected = np.concatenate([np.repeat(1 - person[:1], 4, axis=0), 1 - person[1:]])
    np.testing.assert_allclose(mask, expected.reshape(3, 4, 4, 6).transpose(1, 0, 2, 3))
    assert not wan_animate.encode(loaded, dance(1), SIZE, 0)["given"][:4].any()
    one = wan_animate.encode(loaded, dance(1), SIZE, 1)["given"][:4]
    five = wan_animate.encode(loaded, dance(1), SIZE, 5)["given"][:4]
    assert one[:, :1].all()
    assert not one[:, 1:].any()
    assert five[:, :2].all()
    assert not five[:, 2:].any()


MANY = 3000


def many(*shape: int) -> torch.Tensor:
    return torch.zeros(MANY, *shape)


def test_svds_chances(folders: dict[str, Path]) -> None:
    loaded = svd.load(str(folders["svd"]), Wanted())
    batch = {"latents": many(1, 1, 1, 1), "first": many(1, 1, 1)}
    draws = svd.draw(loaded, batch, seeded(*range(MANY)))
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


def test_animatediffs_chances(folders: dict[str, Path]) -> None:
    loaded = animatediff.load(str(folders["animatediff"]), Wanted())
    draws = animatediff.draw(loaded, {"latents": many(1, 1, 1, 1)}, seeded(*range(MANY)))
    assert 0 <= draws.timestep_B.min() < 10
    assert 990 <= draws.timestep_B.max() < 1000
    assert float(draws.timestep_B.double().mean()) == pytest.approx(500, abs=20)
    assert float(draws.drop_text_B.double().mean()) == pytest.approx(0.1, abs=0.02)


def test_wans_chances(folders: dict[str, Path]) -> None:
    loaded = wan_animate.load(str(folders["wan_animate"]), Wanted())
    batch = {"latents": many(1, 1, 1, 1), "reference": many(5, 1, 1, 1)}
    draws = wan_animate.draw(loaded, batch, seeded(*range(MANY)))
    assert 0 < draws.sigma_B.min() < 0.05
    assert draws.sigma_B.max() <= 1
    scheduler = loaded.processor.scheduler
    scheduler.set_timesteps(20)
    exact = wan_animate.Draws(draws.noise_BCTHW, scheduler.sigmas[:20], draws.drop_B)
    assert wan_animate._timesteps(loaded, exact).equal(scheduler.timesteps)
    whole = wan_animate.Draws(draws.noise_BCTHW, torch.ones(1), draws.drop_B)
    assert wan_animate._timesteps(loaded, whole).item() == scheduler.timesteps[0] == 999
    assert float(draws.sigma_B.median()) == pytest.approx(5 / 6, abs=0.02)  # of 0.5, shifted by 5
    assert float(draws.drop_B.double().mean()) == pytest.approx(0.1, abs=0.02)


# What can't be used.


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


def test_clips_that_cant_be_used(folders: dict[str, Path]) -> None:
    loaded = {name: FAMILIES[name].load(str(folders[name]), Wanted()) for name in FAMILIES}
    with pytest.raises(Unusable, match="have no rate"):
        svd.encode(loaded["svd"], clip(1, "", frames=1), SIZE)
    with pytest.raises(Unusable, match="9 frames; expected at most 8"):
        animatediff.encode(loaded["animatediff"], clip(1, "", frames=9), SIZE)
    with pytest.raises(Unusable, match=r"expected as many of each, 4k \+ 1"):
        wan_animate.encode(loaded["wan_animate"], dance(1, 8), SIZE)
    with pytest.raises(ValueError, match=r"expected sides divisible by 16"):
        wan_animate.encode(loaded["wan_animate"], dance(1), (40, 32))
    with pytest.raises(ValueError, match=r"guidance_frames: 2; expected one of"):
        wan_animate.encode(loaded["wan_animate"], dance(1), SIZE, 2)
