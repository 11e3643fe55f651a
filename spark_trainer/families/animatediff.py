"""AnimateDiff (Guo et al. 2023, arXiv:2307.04725): motion modules in a frozen image model.

`AnimateDiffPipeline`: Stable Diffusion 1.5's network, each block followed by attention over time.

Tensors: B batch, C channels, F frames, H height, W width, L tokens of the text, D their width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.data import video
from spark_trainer.data.sample import Sample, Size, Unusable
from spark_trainer.families.kinds import pipelines
from spark_trainer.families.kinds.diffusion import Diffusion, Generators, Tensors
from spark_trainer.families.kinds.loading import Loaded, LoadOptions

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

LOADING_UNET = """\
from diffusers import AnimateDiffPipeline, UNetMotionModel

unet = UNetMotionModel.from_pretrained("final", subfolder="unet")
pipe = AnimateDiffPipeline.from_pretrained({base!r}, unet=unet)"""
LOADING_MOTION = """\
from diffusers import AnimateDiffPipeline, MotionAdapter

pipe = AnimateDiffPipeline.from_pretrained({base!r})
adapter = MotionAdapter.from_pretrained("final", subfolder="motion_adapter")
pipe.unet.load_motion_modules(adapter)"""


@dataclass(frozen=True)
class Draws:
    """What chance decides at a step, for each sample: one timestep for all its frames."""

    noise_BCFHW: "torch.Tensor"
    timestep_B: "torch.Tensor"
    drop_text_B: "torch.Tensor"


class AnimateDiff(Diffusion):
    pipeline = "AnimateDiffPipeline"
    network = "unet"
    trained_components = ("unet", "motion_adapter")
    model_types = (pipeline,)
    tag = "text-to-video"
    extra_checkpointed = r"(down|up)_blocks\..*\.motion_modules\.\d+"
    loading_snippets = {"unet": LOADING_UNET, "motion_adapter": LOADING_MOTION}
    parts = {
        "motion": (r".*\.motion_modules\.",),
        "image": ("",),
    }
    frozen = ("image",)
    lora_targets = r".*\.motion_modules\..*\.(to_q|to_k|to_v|to_out\.0)"

    def load(self, name: str, options: LoadOptions) -> Loaded:
        """See `Kind`.

        The whole network is loaded in any case: a folder may hold it in two halves. From scratch
        are the motion modules alone; their output starts at 0, so that the network starts as the
        image model that it was (section 4.2 of the paper).
        """
        import torch

        pretrained = LoadOptions(
            dtype=options.dtype, four_bit=options.four_bit, on_meta=options.on_meta
        )
        loaded = super().load(name, pretrained)
        if options.from_scratch and not options.on_meta:
            config = loaded.model.config
            fresh = type(loaded.model).from_config(config).to(loaded.model.dtype).state_dict()
            moving = {name: value for name, value in fresh.items() if ".motion_modules." in name}
            for name, value in moving.items():
                if ".proj_out." in name:
                    torch.nn.init.zeros_(value)
            loaded.model.load_state_dict(moving, strict=False)
        return loaded

    def size_multiple(self, loaded: Loaded) -> int:
        return int(loaded.processor.vae_scale_factor)

    def check_lengths(self, loaded: Loaded, lengths: Sequence[int]) -> None:
        """See `Diffusion`; the motion modules count no further than `motion_max_seq_length`."""
        most = loaded.model.config.motion_max_seq_length
        if lengths[0] > most:
            raise ValueError(f"train.clip.num_frames: {lengths[0]}; expected at most {most}")

    def refuse_frames(self, loaded: Loaded, clip: Sample) -> None:
        """See `Diffusion`; as `check_lengths`."""
        most = loaded.model.config.motion_max_seq_length
        if len(clip.images) > most:
            raise Unusable(
                f"video {clip.video}: {len(clip.images)} frames; expected at most {most}"
            )

    def encode(self, loaded: Loaded, clip: Sample, size: Size) -> Tensors:
        """Return `latents` (C, F, h, w), scaled; see `Diffusion`."""
        self.refuse_frames(loaded, clip)
        vae = loaded.processor.vae
        pixels_FCHW = pipelines.scaled(pipelines.pixels(video.fitted(clip.images, size)))
        latents_FCHW = pipelines.image_latents(vae, pixels_FCHW) * vae.config.scaling_factor
        return {"latents": latents_FCHW.transpose(0, 1).cpu()}

    def embed(self, loaded: Loaded, text: str) -> "torch.Tensor":
        pipe = loaded.processor
        embedded_1LD, _ = pipe.encode_prompt(text, pipe.text_encoder.device, 1, False)
        embedded_LD: torch.Tensor = embedded_1LD[0].cpu()
        return embedded_LD

    def draw(self, loaded: Loaded, clips: Tensors, generators: Generators) -> Draws:
        """See `Diffusion`; the text is left out a tenth of the time."""
        from spark_trainer.losses import per_sample

        where = clips["latents"].device
        num_steps = loaded.processor.scheduler.config.num_train_timesteps
        return Draws(
            noise_BCFHW=per_sample.normal(generators, clips["latents"].shape[1:], where),
            timestep_B=per_sample.integers(generators, 0, num_steps, where),
            drop_text_B=per_sample.uniform(generators, where) < pipelines.dropout(clips),
        )

    def arguments(self, loaded: Loaded, clips: Tensors, draws: Draws) -> dict[str, Any]:
        """See `Diffusion`; as pipeline_animatediff.py."""
        import torch

        from spark_trainer.losses import noise_prediction

        alpha_B = _alphas(loaded, draws)
        x_BCFHW = noise_prediction.noised(clips["latents"], draws.noise_BCFHW, alpha_B)
        text_BLD = torch.where(draws.drop_text_B[:, None, None], clips["empty"], clips["text"])
        dtype = loaded.model.dtype
        return {
            "sample": x_BCFHW.to(dtype),
            "timestep": draws.timestep_B,
            "encoder_hidden_states": text_BLD.repeat_interleave(x_BCFHW.shape[2], dim=0).to(dtype),
        }

    def compare(
        self, loaded: Loaded, clips: Tensors, draws: Draws, output: "torch.Tensor"
    ) -> "torch.Tensor":
        """See `Diffusion`; the network predicts what the scheduler's `prediction_type` says."""
        from spark_trainer.losses import noise_prediction

        prediction = loaded.processor.scheduler.config.prediction_type
        alpha_B = _alphas(loaded, draws)
        return noise_prediction.loss(
            output, clips["latents"], draws.noise_BCFHW, alpha_B, prediction
        )

    def call(self, clip: Sample, size: Size) -> dict[str, Any]:
        """See `Diffusion`: the clip's text."""
        return {
            "prompt": clip.answer,
            "num_frames": len(clip.images),
            "output_type": "latent",
        }

    def frames(self, loaded: Loaded, made: Any, clip: Sample) -> "list[Image]":
        return pipelines.decoded(loaded, made.frames, pipelines.FRAMES_AT_ONCE)

    def save(self, model: Any, folder: Path) -> None:
        """Write `motion_adapter/`, for upstream's `MotionAdapter`; if more learnt, `unet/` too."""
        model.save_motion_modules(folder / "motion_adapter")
        if any(p.requires_grad for n, p in model.named_parameters() if ".motion_modules." not in n):
            super().save(model, folder)


def _alphas(loaded: Loaded, draws: Draws) -> "torch.Tensor":
    """Return ᾱ at each sample's timestep, of the noise that the pipeline's scheduler removes."""
    alphas: torch.Tensor = loaded.processor.scheduler.alphas_cumprod
    return alphas.to(draws.timestep_B.device)[draws.timestep_B]
