"""Stable Video Diffusion (Blattmann et al. 2023, arXiv:2311.15127): a video from its first frame.

`StableVideoDiffusionPipeline`: `UNetSpatioTemporalConditionModel` over the latents of frames, each
beside the latents of the first frame, whose pixels were noised a little; it is also told the first
frame's CLIP embedding, the frame rate, how much moves, and how strong that little noise was.

Tensors: B batch, T frames, C channels, H height, W width, D width of the CLIP embedding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from spark_trainer.data import video
from spark_trainer.data.sample import Sample, Size
from spark_trainer.families.kinds import pipelines
from spark_trainer.families.kinds.diffusion import Diffusion, Generators, Tensors
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.media import motion

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

LOADING_UNET = """\
from diffusers import StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel

unet = UNetSpatioTemporalConditionModel.from_pretrained("final", subfolder="unet")
pipe = StableVideoDiffusionPipeline.from_pretrained({base!r}, unet=unet)"""

# Of the logarithms of the two noise levels, as public fine-tuning code draws them.
SIGMA_MEAN, SIGMA_STD = 0.7, 1.6
FIRST_SIGMA_MEAN, FIRST_SIGMA_STD = -3.0, 0.5
MOST_MOTION = 32.0  # levels of 255 between frames that count as the fastest motion


@dataclass(frozen=True)
class Draws:
    """What chance decides at a step, for each sample."""

    noise_BTCHW: "torch.Tensor"
    sigma_B: "torch.Tensor"
    first_noise_BCHW: "torch.Tensor"  # over the first frame's pixels
    first_sigma_B: "torch.Tensor"
    drop_image_B: "torch.Tensor"
    drop_first_B: "torch.Tensor"


class StableVideoDiffusion(Diffusion):
    pipeline = "StableVideoDiffusionPipeline"
    network = "unet"
    model_types = (pipeline,)
    tag = "image-to-video"
    text_conditioned = False
    train_time_encoders = ("vae",)  # the first frame is noised anew and encoded
    extra_checkpointed = r".*\.temporal_transformer_blocks\.\d+"
    loading_snippets = {"unet": LOADING_UNET}
    parts = {
        "temporal": (r".*\.(temporal_\w+|time_mixer|time_pos_embed)\.",),
        "spatial": ("",),
    }
    frozen = ("spatial",)  # how things look is learnt already; how they move is not
    lora_targets = r".*\.attn\d\.(to_q|to_k|to_v|to_out\.0)"

    def size_multiple(self, loaded: Loaded) -> int:
        """See `Diffusion`; the network halves latents once less than it has blocks."""
        halvings = len(loaded.model.config.down_block_types) - 1
        return int(loaded.processor.vae_scale_factor * 2**halvings)

    def refuse_frames(self, loaded: Loaded, clip: Sample) -> None:
        """See `Diffusion`; fewer than two frames have no rate."""
        pipelines.fps(clip.times, clip.video)

    def encode(self, loaded: Loaded, clip: Sample, size: Size) -> Tensors:
        """Return what the frozen encoders make of a clip; see `Diffusion`.

        The latents of the noised first frame can't be kept: their noise is another at every step,
        and the VAE isn't linear. The frame itself is kept as bytes, and `arguments` encodes it: 2.6
        TFLOP beside the network's 134 forward and backward, for 14 frames of 1024 × 576.

        Returns:
            `latents` (T, C, h, w), scaled; `first` (C, H, W), bytes; `image` (D), its CLIP
            embedding; `fps` and `motion`, a number each.
        """
        import torch

        pipe = loaded.processor
        fps = pipelines.fps(clip.times, clip.video)
        images = video.fitted(clip.images, size)
        pixels_TCHW = pipelines.pixels(images)
        latents_TCHW = pipelines.image_latents(pipe.vae, pipelines.scaled(pixels_TCHW))
        with torch.no_grad():
            image_11D = pipe._encode_image(images[0], pipe.image_encoder.device, 1, False)
        return {
            "latents": (latents_TCHW * pipe.vae.config.scaling_factor).cpu(),
            "first": pixels_TCHW[0],
            "image": image_11D[0, 0].cpu(),
            "fps": torch.tensor(fps),
            "motion": torch.tensor(float(motion_bucket(images))),
        }

    def draw(self, loaded: Loaded, clips: Tensors, generators: Generators) -> Draws:
        """See `Diffusion`.

        Embedding and latents of the first frame are left out a tenth of the time each, half of it
        together, which is what the pipeline guides away from (as Brooks et al. 2022,
        arXiv:2211.09800, section 3.2.1).
        """
        from spark_trainer.losses import edm, per_sample

        where = clips["latents"].device
        chance_B = per_sample.uniform(generators, where)
        drop = pipelines.dropout(clips)
        return Draws(
            noise_BTCHW=per_sample.normal(generators, clips["latents"].shape[1:], where),
            sigma_B=edm.sigmas(generators, SIGMA_MEAN, SIGMA_STD, where),
            first_noise_BCHW=per_sample.normal(generators, clips["first"].shape[1:], where),
            first_sigma_B=edm.sigmas(generators, FIRST_SIGMA_MEAN, FIRST_SIGMA_STD, where),
            drop_image_B=chance_B < drop,
            drop_first_B=(chance_B >= drop / 2) & (chance_B < 1.5 * drop),
        )

    def arguments(self, loaded: Loaded, clips: Tensors, draws: Draws) -> dict[str, Any]:
        """See `Diffusion`; as pipeline_stable_video_diffusion.py."""
        import torch

        from spark_trainer.losses import edm

        x_BTCHW = edm.noised(clips["latents"], draws.noise_BTCHW, draws.sigma_B)
        first_BCHW = _first_latents(loaded, clips, draws)
        repeated_BTCHW = first_BCHW[:, None].expand(-1, x_BTCHW.shape[1], -1, -1, -1)
        seen_BTCHW = torch.cat([edm.scaled(x_BTCHW, draws.sigma_B), repeated_BTCHW], dim=2)
        image_BD = clips["image"].masked_fill(draws.drop_image_B[:, None], 0)
        told_B3 = torch.stack([clips["fps"] - 1, clips["motion"], draws.first_sigma_B], dim=1)
        dtype = loaded.model.dtype
        return {
            "sample": seen_BTCHW.to(dtype),
            "timestep": edm.scales(draws.sigma_B).c_noise_B,
            "encoder_hidden_states": image_BD[:, None].to(dtype),
            "added_time_ids": told_B3.to(dtype),
        }

    def compare(
        self, loaded: Loaded, clips: Tensors, draws: Draws, output: "torch.Tensor"
    ) -> "torch.Tensor":
        from spark_trainer.losses import edm

        return edm.loss(output, clips["latents"], draws.noise_BTCHW, draws.sigma_B)

    def call(self, clip: Sample, size: Size) -> dict[str, Any]:
        """See `Diffusion`: the clip's first frame, its rate and how much moves in it."""
        images = video.fitted(clip.images, size)
        return {
            "image": images[0],
            "num_frames": len(images),
            "fps": pipelines.fps(clip.times, clip.video),
            "motion_bucket_id": motion_bucket(images),
            "output_type": "latent",
        }

    def frames(self, loaded: Loaded, made: Any, clip: Sample) -> "list[Image]":
        num_frames = len(clip.images)
        return pipelines.decoded(loaded, made.frames, num_frames, pipelines.FRAMES_AT_ONCE)


def motion_bucket(images: "Sequence[Image]") -> int:
    """Return how much moves from frame to frame, 1 (nothing) to 255.

    1 + 254·√(m / 32), at most 255, of `media.motion` m over cells of 8 × 8 pixels, a latent's. The
    root spreads slow motions, which are most; the pipeline's default of 127 is then a difference of
    8 levels. The measure of the original training, from optical flow, was not published. A rate of
    frames is a condition of its own, so the difference is between the frames that the network sees,
    not per second; the manifest's `motion` is that between the extracted frames.
    """
    moved = motion.mean([motion.between(*pair) for pair in pairwise(map(motion.cells, images))])
    return round(1 + 254 * math.sqrt(min(1.0, moved / MOST_MOTION)))


def _first_latents(loaded: Loaded, clips: Tensors, draws: Draws) -> "torch.Tensor":
    """Return the latents (B, C, h, w) of the noised first frames; not scaled, unlike the clip's."""
    from spark_trainer.losses import edm
    from spark_trainer.losses.per_sample import spread

    first_BCHW = edm.noised(
        pipelines.scaled(clips["first"]), draws.first_noise_BCHW, draws.first_sigma_B
    )
    vae = loaded.processor.vae.to(first_BCHW.device)
    first_BCHW = pipelines.image_latents(vae, first_BCHW)
    return first_BCHW.masked_fill(spread(draws.drop_first_B, first_BCHW), 0)
