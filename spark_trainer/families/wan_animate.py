"""Wan2.2-Animate (Cheng et al. 2025, arXiv:2509.14055): a character moved as in another video.

`WanAnimatePipeline`: `WanAnimateTransformer3DModel` over the latents of a reference image and,
after it, of the video; the body is told by latents of drawn skeletons, the face by its pixels. To
`animate` is to invent the surroundings; to `replace` is to keep those of a given video. Everything
is prepared by the pipeline's own methods (pipeline_wan_animate.py).

Tensors: B batch, C channels, T latent frames (S frames of video make (S - 1) / 4 + 1), H height, W
width, L tokens of the text, D width of an embedding.
"""

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_trainer.data import video
from spark_trainer.data.sample import Sample, Size, Unusable
from spark_trainer.families.kinds import pipelines
from spark_trainer.families.kinds.diffusion import Diffusion, Generators, Tensors
from spark_trainer.families.kinds.loading import Loaded, LoadOptions

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

LOADING_TRANSFORMER = """\
from diffusers import WanAnimatePipeline, WanAnimateTransformer3DModel

transformer = WanAnimateTransformer3DModel.from_pretrained("final", subfolder="transformer")
pipe = WanAnimatePipeline.from_pretrained({base!r}, transformer=transformer)"""

MASK_CHANNELS = 4  # in front of the latents of what is given, 1 where it is to be kept
GUIDANCE_FRAMES = (0, 1, 5)  # the pipeline continues a video from its last 1 or 5 frames
TEXT_LENGTH = 512  # tokens, the rest of the embedding is 0
MULTIPLE = 16  # of a side of a clip: 8 pixels a latent, 2 latents a patch


@dataclass(frozen=True)
class Draws:
    """What chance decides at a step, for each sample; T counts the reference too."""

    noise_BCTHW: "torch.Tensor"
    sigma_B: "torch.Tensor"
    drop_B: "torch.Tensor"


class WanAnimate(Diffusion):
    pipeline = "WanAnimatePipeline"
    network = "transformer"
    model_types = (pipeline,)
    tag = "image-to-video"
    conditions = ("reference", "pose", "face")
    optional_conditions = ("background", "mask")
    extra_checkpointed = r"face_adapter\.\d+|motion_encoder"
    flips = False  # the colours of a skeleton tell left from right
    loading_snippets = {"transformer": LOADING_TRANSFORMER}
    parts = {
        "pose": ("pose_patch_embedding",),
        "face": ("face_encoder", "face_adapter"),
        "motion_encoder": ("motion_encoder",),
        "video": ("",),
    }
    frozen = ("video",)  # the 14 billion weights that Wan2.2-Animate was made from
    lora_targets = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"

    def load(self, name: str, options: LoadOptions) -> Loaded:
        loaded = super().load(name, options)
        if options.sharded:
            loaded.model.register_forward_pre_hook(_faces_at_once, with_kwargs=True)
        return loaded

    def size_multiple(self, loaded: Loaded) -> int:
        """See `Diffusion`; a patch is two latents wide and high."""
        return int(loaded.processor.vae_scale_factor_spatial * loaded.model.config.patch_size[-1])

    def check_lengths(self, loaded: Loaded, lengths: Sequence[int]) -> None:
        """See `Diffusion`; four frames make one of latents, after the first."""
        stride = loaded.processor.vae_scale_factor_temporal
        for frames in lengths:
            if frames % stride != 1:
                expected = f"{stride}k + 1, such as 77"
                raise ValueError(f"train.clip.num_frames: {frames}; expected {expected}")

    def refuse_frames(self, loaded: Loaded, clip: Sample) -> None:
        """See `Diffusion`: 4k + 1 frames are needed, and as many in each of a clip's videos."""
        others = [images for name, images in clip.conditions.items() if name != "reference"]
        lengths = [len(images) for images in [clip.images, *others]]
        stride = loaded.processor.vae_scale_factor_temporal
        if len(set(lengths)) > 1 or lengths[0] % stride != 1:
            raise Unusable(
                f"video {clip.video}: {lengths} frames of each video; expected as many of each, "
                f"{stride}k + 1"
            )

    def encode(
        self, loaded: Loaded, clip: Sample, size: Size, guidance_frames: int | None = None
    ) -> Tensors:
        """Return what the frozen encoders make of a clip; see `Diffusion`.

        Args:
            clip: with `background` and `mask` (white where the character is) for replacing.
            size: both sides divisible by 16.
            guidance_frames: how many of the first frames are given, as when the pipeline continues
                a video: 0, 1 or 5; None draws one by the clip's `variant`.

        Returns:
            `latents` and `pose` (C, T, h, w); `reference` (4 + C, 1, h, w) and `given`
            (4 + C, T, h, w), each behind its mask; `face` (3, S, side, side), bytes; `image`
            (D', D) from CLIP.
        """
        import torch

        if guidance_frames is None:
            guidance_frames = random.Random(clip.variant).choice(GUIDANCE_FRAMES)  # noqa: S311
        self.refuse_frames(loaded, clip)
        _check_encoded(size, guidance_frames)
        pipe, device = loaded.processor, loaded.processor.vae.device
        [reference] = clip.conditions["reference"]
        reference_1CHW = pipe.vae_image_processor.preprocess(
            reference, height=size[1], width=size[0], resize_mode="fill"
        )
        video_1CSHW = _video(pipe, clip.images, size)
        pose_1CSHW = _video(pipe, clip.conditions["pose"], size)
        with torch.no_grad():
            encoded = {
                "latents": pipe.prepare_pose_latents(video_1CSHW, device=device),
                "reference": pipe.prepare_reference_image_latents(reference_1CHW, device=device),
                "given": _given(pipe, clip, video_1CSHW, guidance_frames),
                "pose": pipe.prepare_pose_latents(pose_1CSHW, device=device),
                "image": pipe.encode_image(reference, device),
            }
        kept = {name: value[0].cpu() for name, value in encoded.items()}
        return kept | {"face": _faces(clip, loaded.model.config.motion_encoder_size)}

    def embed(self, loaded: Loaded, text: str) -> "torch.Tensor":
        """See `Diffusion`; up to 512 tokens, without the zeros that the pipeline fills up with."""
        pipe = loaded.processor
        embedded_1LD, _ = pipe.encode_prompt(
            text,
            do_classifier_free_guidance=False,
            max_sequence_length=TEXT_LENGTH,
            device=pipe.text_encoder.device,
        )
        embedded_LD: torch.Tensor = embedded_1LD[0].cpu()
        return embedded_LD[: embedded_LD.any(dim=-1).sum()].contiguous()

    def collate(self, clips: Sequence[Tensors]) -> Tensors:
        """See `Diffusion`; texts are filled up with 0."""
        from torch.nn.functional import pad

        def filled(text_LD: "torch.Tensor") -> "torch.Tensor":
            return pad(text_LD, (0, 0, 0, TEXT_LENGTH - len(text_LD)))

        texts = [{name: filled(one[name]) for name in ("text", "empty")} for one in clips]
        return pipelines.stacked([one | text for one, text in zip(clips, texts, strict=True)])

    def draw(self, loaded: Loaded, clips: Tensors, generators: Generators) -> Draws:
        """See `Diffusion`.

        Face and text are left out together, a tenth of the time: that is what the pipeline guides
        away from. Noise levels are the pipeline's scheduler's, shifted by its `flow_shift`.
        """
        from spark_trainer.losses import flow_matching, per_sample

        x0_BCTHW = _clean(clips)
        config = loaded.processor.scheduler.config
        steps, where = config.num_train_timesteps, x0_BCTHW.device
        return Draws(
            noise_BCTHW=per_sample.normal(generators, x0_BCTHW.shape[1:], where),
            sigma_B=flow_matching.sigmas(generators, steps, config.flow_shift, where),
            drop_B=per_sample.uniform(generators, where) < pipelines.dropout(clips),
        )

    def arguments(self, loaded: Loaded, clips: Tensors, draws: Draws) -> dict[str, Any]:
        """See `Diffusion`; as pipeline_wan_animate.py."""
        import torch

        from spark_trainer.losses import flow_matching
        from spark_trainer.losses.per_sample import spread

        x_BCTHW = flow_matching.noised(_clean(clips), draws.noise_BCTHW, draws.sigma_B)
        given_BCTHW = torch.cat([clips["reference"], clips["given"]], dim=2)
        face_B3SHW = pipelines.scaled(clips["face"])
        face_B3SHW = face_B3SHW.masked_fill(spread(draws.drop_B, face_B3SHW), -1)
        text_BLD = torch.where(draws.drop_B[:, None, None], clips["empty"], clips["text"])
        dtype = loaded.model.dtype
        return {
            "hidden_states": torch.cat([x_BCTHW, given_BCTHW], dim=1).to(dtype),
            "timestep": _timesteps(loaded, draws),
            "encoder_hidden_states": text_BLD.to(dtype),
            "encoder_hidden_states_image": clips["image"].to(dtype),
            "pose_hidden_states": clips["pose"].to(dtype),
            "face_pixel_values": face_B3SHW.to(dtype),
        }

    def compare(
        self, loaded: Loaded, clips: Tensors, draws: Draws, output: "torch.Tensor"
    ) -> "torch.Tensor":
        """See `Diffusion`; over the latents of the reference too: sampling makes them."""
        from spark_trainer.losses import flow_matching

        return flow_matching.loss(output, _clean(clips), draws.noise_BCTHW)

    def call(self, clip: Sample, size: Size) -> dict[str, Any]:
        """See `Diffusion`: the clip's reference, moved as its skeletons and faces."""
        names = [name for name in ("pose", *self.optional_conditions) if name in clip.conditions]
        videos = {name: list(video.fitted(clip.conditions[name], size)) for name in names}
        return {
            "image": clip.conditions["reference"][0],
            "face_video": list(clip.conditions["face"]),
            "prompt": clip.answer,
            "mode": "replace" if "background" in videos else "animate",
            "segment_frame_length": len(clip.images),
            "output_type": "pil",
            **{f"{name}_video": images for name, images in videos.items()},
        }


def _faces_at_once(model: Any, args: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Call the motion encoder once, not once for every few faces of a batch."""
    batch_size, _, num_frames = arguments["face_pixel_values"].shape[:3]
    return args, {**arguments, "motion_encode_batch_size": batch_size * num_frames}


def _check_encoded(size: Size, guidance_frames: int) -> None:
    """Stop where a caller asks for what the pipeline can't make."""
    if size[0] % MULTIPLE or size[1] % MULTIPLE:
        raise ValueError(f"size: {size[0]} × {size[1]}; expected sides divisible by {MULTIPLE}")
    if guidance_frames not in GUIDANCE_FRAMES:
        raise ValueError(f"guidance_frames: {guidance_frames}; expected one of {GUIDANCE_FRAMES}")


def _video(pipe: Any, images: "Sequence[Image]", size: Size) -> "torch.Tensor":
    """Return a video (1, C, S, H, W) from -1 to 1; every video of a clip is cut alike."""
    fitted, (width, height) = list(video.fitted(images, size)), size
    made: torch.Tensor = pipe.video_processor.preprocess_video(fitted, height, width)
    return made


def _given(
    pipe: Any, clip: Sample, video_1CSHW: "torch.Tensor", guidance_frames: int
) -> "torch.Tensor":
    """Return mask and latents (1, 4 + C, T, h, w) of what is given beside the reference."""
    num_frames, height, width = video_1CSHW.shape[2:]
    if not guidance_frames and "background" not in clip.conditions:
        return _nothing_given(pipe, num_frames, height, width)
    device = pipe.vae.device  # where upstream makes what is not given, and moves nothing to
    background_1CSHW = mask_11SHW = None
    if replaces := "background" in clip.conditions:
        background_1CSHW = _video(pipe, clip.conditions["background"], (width, height)).to(device)
        masks = list(video.fitted(clip.conditions["mask"], (width, height)))
        mask_11SHW = pipe.video_processor_for_mask.preprocess_video(masks, height, width).to(device)
    made: torch.Tensor = pipe.prepare_prev_segment_cond_latents(
        video_1CSHW[:, :, :guidance_frames].to(device) if guidance_frames else None,
        background_video=background_1CSHW,
        mask_video=mask_11SHW,
        segment_frame_length=num_frames,
        start_frame=guidance_frames,  # in front of which nothing is given
        height=height,
        width=width,
        prev_segment_cond_frames=guidance_frames or 1,
        task="replace" if replaces else "animate",
        device=device,
    )
    return made


@functools.lru_cache(maxsize=8)
def _nothing_given(pipe: Any, num_frames: int, height: int, width: int) -> "torch.Tensor":
    """Return what `_given` does of zeros alone; they are encoded once for each size."""
    size = {"segment_frame_length": num_frames, "height": height, "width": width}
    made: torch.Tensor = pipe.prepare_prev_segment_cond_latents(**size, device=pipe.vae.device)
    return made


def _faces(clip: Sample, side: int) -> "torch.Tensor":
    """Return the faces (3, S, side, side) as bytes."""
    from PIL.Image import Resampling

    size = side, side
    faces = [one.convert("RGB").resize(size, Resampling.LANCZOS) for one in clip.conditions["face"]]
    return pipelines.pixels(faces).transpose(0, 1).contiguous()


def _clean(clips: Tensors) -> "torch.Tensor":
    """Return latents (B, C, 1 + T, h, w) of the reference and of the video after it."""
    import torch

    return torch.cat([clips["reference"][:, MASK_CHANNELS:], clips["latents"]], dim=2)


def _timesteps(loaded: Loaded, draws: Draws) -> "torch.Tensor":
    """Return what the network is told of σ: 1000·σ in whole numbers, 999 at most.

    As scheduling_unipc_multistep.py, whose first σ is a hair below 1.
    """
    num_steps: int = loaded.processor.scheduler.config.num_train_timesteps
    return (draws.sigma_B * num_steps).long().clamp(max=num_steps - 1)
