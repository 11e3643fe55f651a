"""AnimateDiff (Guo et al. 2023, arXiv:2307.04725): motion modules in a frozen image model.

`AnimateDiffPipeline`: Stable Diffusion 1.5's network, each block followed by attention over time.

Tensors: B batch, C channels, F frames, H height, W width, L tokens of the text, D their width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer import pipelines
from spark_trainer.config import Run
from spark_trainer.data import control, video
from spark_trainer.data.sample import Needs, Sample, Unusable
from spark_trainer.families import Batch, Loaded, Wanted

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

PIPELINE = "AnimateDiffPipeline"
NETWORK = "unet"
MODEL_TYPES = (PIPELINE,)
ONE_FRAME = False
PACKS = False
TAG = "text-to-video"
NEEDS = Needs()
EACH_STEP: tuple[str, ...] = ()
RECOMPUTED = r"(down|up)_blocks\..*\.motion_modules\.\d+"
FLIPS = True
USE = {
    "unet": """\
from diffusers import AnimateDiffPipeline, UNetMotionModel

unet = UNetMotionModel.from_pretrained("final", subfolder="unet")
pipe = AnimateDiffPipeline.from_pretrained("{base}", unet=unet)""",
    "motion_adapter": """\
from diffusers import AnimateDiffPipeline, MotionAdapter

pipe = AnimateDiffPipeline.from_pretrained("{base}")
adapter = MotionAdapter.from_pretrained("final", subfolder="motion_adapter")
pipe.unet.load_motion_modules(adapter)""",
}
PARTS = {
    "motion": (r".*\.motion_modules\.",),
    "image": ("",),
}
FROZEN = ("image",)
LORA_TARGETS = r".*\.motion_modules\..*\.(to_q|to_k|to_v|to_out\.0)"


def load(name: str, wanted: Wanted) -> Loaded:
    """Load a hub id or folder.

    The whole network is loaded in any case: a folder may hold it in two halves. From scratch are
    the motion modules alone; their output starts at 0, so that the network starts
    as the image model that it was (section 4.2 of the paper).
    """
    import torch

    pretrained = Wanted(dtype=wanted.dtype, four_bit=wanted.four_bit)
    loaded = pipelines.load(name, pretrained, PIPELINE, NETWORK)
    if wanted.from_scratch:
        config = loaded.model.config
        fresh = type(loaded.model).from_config(config).to(loaded.model.dtype).state_dict()
        moving = {name: value for name, value in fresh.items() if ".motion_modules." in name}
        for name, value in moving.items():
            if ".proj_out." in name:
                torch.nn.init.zeros_(value)
        loaded.model.load_state_dict(moving, strict=False)
    return loaded


def check(loaded: Loaded, run: Run) -> None:
    """Its motion modules have so many places."""
    most = loaded.model.config.motion_max_seq_length
    if (longest := run.clip.lengths[0]) > most:
        raise ValueError(f"train.clip.num_frames: {longest}; expected at most {most}")
    pipelines.check(loaded, run, loaded.processor.vae_scale_factor)


def refuse(loaded: Loaded, clip: Sample) -> None:
    """Stop a clip of more frames than there are places for, or whose text holds a control token."""
    _refuse_frames(loaded, clip)
    control.refuse(loaded.processor, f"video {clip.video}: its text", clip.answer)


def _refuse_frames(loaded: Loaded, clip: Sample) -> None:
    most = loaded.model.config.motion_max_seq_length
    if len(clip.images) > most:
        raise Unusable(f"video {clip.video}: {len(clip.images)} frames; expected at most {most}")


def encode(loaded: Loaded, sample: Sample, size: tuple[int, int]) -> "dict[str, torch.Tensor]":
    """What the frozen encoders make of a clip, at `size` (width, height) in pixels.

    Returns:
        `latents` (C, F, h, w), scaled.

    Raises:
        Unusable: more frames than the motion modules have places for.
    """
    _refuse_frames(loaded, sample)
    pipe = loaded.processor
    images = video.fitted(sample.images, size)
    pixels_FCHW = pipelines.scaled(pipelines.pixels(images))
    latents_FCHW = pipelines.image_latents(pipe.vae, pixels_FCHW) * pipe.vae.config.scaling_factor
    return {"latents": latents_FCHW.transpose(0, 1).cpu()}


def text(loaded: Loaded, text: str) -> "torch.Tensor":
    """Embedding (L, D) of a text.

    Raises:
        Unusable: it holds a control token.
    """
    import torch

    pipe = loaded.processor
    control.refuse(pipe, f"the text {text!r}", text)
    with torch.no_grad():
        embedded_1LD, _ = pipe.encode_prompt(text, pipe.text_encoder.device, 1, False)
    embedded_LD: torch.Tensor = embedded_1LD[0].cpu()
    return embedded_LD


collate = pipelines.stacked


@dataclass(frozen=True)
class Draws:
    """What chance decides at a step, for each sample: one timestep for all its frames."""

    noise_BCFHW: "torch.Tensor"
    timestep_B: "torch.Tensor"
    drop_text_B: "torch.Tensor"


def draw(loaded: Loaded, batch: Batch, generators: "Sequence[torch.Generator]") -> Draws:
    """Draw with one generator a sample; the text is left out a tenth of the time."""
    from spark_trainer.losses import per_sample

    where = batch["latents"].device
    num_steps = loaded.processor.scheduler.config.num_train_timesteps
    return Draws(
        noise_BCFHW=per_sample.normal(generators, batch["latents"].shape[1:], where),
        timestep_B=per_sample.integers(generators, 0, num_steps, where),
        drop_text_B=per_sample.uniform(generators, where) < pipelines.drop(batch),
    )


def arguments(loaded: Loaded, batch: Batch, draws: Draws) -> dict[str, Any]:
    """What the network is called with, as pipeline_animatediff.py calls it."""
    import torch

    from spark_trainer.losses import noise_prediction

    x0_BCFHW = batch["latents"]
    alpha_B = _alphas(loaded, draws)
    x_BCFHW = noise_prediction.noised(x0_BCFHW, draws.noise_BCFHW, alpha_B)
    text_BLD = torch.where(draws.drop_text_B[:, None, None], batch["empty"], batch["text"])
    dtype = loaded.model.dtype
    return {
        "sample": x_BCFHW.to(dtype),
        "timestep": draws.timestep_B,
        "encoder_hidden_states": text_BLD.repeat_interleave(x_BCFHW.shape[2], dim=0).to(dtype),
    }


def _alphas(loaded: Loaded, draws: Draws) -> "torch.Tensor":
    """ᾱ at each sample's timestep, of the very noise that the pipeline's scheduler takes away."""
    alphas: torch.Tensor = loaded.processor.scheduler.alphas_cumprod
    return alphas.to(draws.timestep_B.device)[draws.timestep_B]


def losses(
    loaded: Loaded, model: Any, batch: Batch, generators: "Sequence[torch.Generator]"
) -> "torch.Tensor":
    """Loss of each sample (B,)."""
    from spark_trainer.losses import noise_prediction

    draws = draw(loaded, batch, generators)
    output_BCFHW = model(**arguments(loaded, batch, draws), return_dict=False)[0]
    prediction = loaded.processor.scheduler.config.prediction_type
    return noise_prediction.loss(
        output_BCFHW, batch["latents"], draws.noise_BCFHW, _alphas(loaded, draws), prediction
    )


loss = pipelines.summed(losses)


def save(model: Any, folder: Path) -> None:
    """Write `motion_adapter/`, for upstream's `MotionAdapter`; if more learnt, `unet/` too."""
    model.save_motion_modules(folder / "motion_adapter")
    if any(p.requires_grad for n, p in model.named_parameters() if ".motion_modules." not in n):
        model.save_pretrained(folder / "unet")


def sample(
    loaded: Loaded,
    model: Any,
    clip: Sample,
    size: tuple[int, int],
    num_steps: int,
    generator: "torch.Generator",
) -> "list[Image]":
    """As many frames as the clip has, from its text."""
    made = pipelines.using(loaded, NETWORK, model)(
        clip.answer,
        width=size[0],
        height=size[1],
        num_frames=len(clip.images),
        num_inference_steps=num_steps,
        generator=generator,
        output_type="latent",
    )
    return pipelines.decoded(loaded, made.frames, pipelines.FRAMES_AT_ONCE)
