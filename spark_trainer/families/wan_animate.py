"""Wan2.2-Animate (Cheng et al. 2025, arXiv:2509.14055): a character moved as in another video.

`WanAnimatePipeline`: `WanAnimateTransformer3DModel` over the latents of a reference image and,
after it, of the video; the body is told by latents of drawn skeletons, the face by its pixels. To
`animate` is to invent the surroundings; to `replace` is to keep those of a given video.

Everything is prepared by the pipeline's own methods (pipeline_wan_animate.py).

Tensors: B batch, C channels, T latent frames (S frames of video make (S - 1) / 4 + 1), H height, W
width, L tokens of the text, D width of an embedding.
"""

import random
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

PIPELINE = "WanAnimatePipeline"
NETWORK = "transformer"
MODEL_TYPES = (PIPELINE,)
ONE_FRAME = False
PACKS = False
TAG = "image-to-video"
NEEDS = Needs(beside=("reference", "pose", "face"), either=("background", "mask"))
EACH_STEP: tuple[str, ...] = ()
RECOMPUTED = r"face_adapter\.\d+|motion_encoder"
FLIPS = False  # the colours of a skeleton tell left from right
USE = {
    "transformer": """\
from diffusers import WanAnimatePipeline, WanAnimateTransformer3DModel

transformer = WanAnimateTransformer3DModel.from_pretrained("final", subfolder="transformer")
pipe = WanAnimatePipeline.from_pretrained("{base}", transformer=transformer)""",
}
PARTS = {
    "pose": ("pose_patch_embedding",),
    "face": ("face_encoder", "face_adapter"),
    "motion_encoder": ("motion_encoder",),
    "video": ("",),
}
FROZEN = ("video",)  # the 14 billion weights that Wan2.2-Animate was made from
LORA_TARGETS = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"

MASK_CHANNELS = 4  # in front of the latents of what is given, 1 where it is to be kept
GUIDANCE_FRAMES = (0, 1, 5)  # the pipeline continues a video from its last 1 or 5 frames
TEXT_LENGTH = 512  # tokens, the rest of the embedding is 0


def load(name: str, wanted: Wanted) -> Loaded:
    """Load a hub id or folder."""
    loaded = pipelines.load(name, wanted, PIPELINE, NETWORK)
    if wanted.sharded:
        loaded.model.register_forward_pre_hook(_faces_at_once, with_kwargs=True)
    return loaded


def _faces_at_once(model: Any, args: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Call the motion encoder once, not once for every few faces of a batch."""
    face_B3SHW = arguments["face_pixel_values"]
    num_faces = face_B3SHW.shape[0] * face_B3SHW.shape[2]
    return args, {**arguments, "motion_encode_batch_size": num_faces}


def check(loaded: Loaded, run: Run) -> None:
    """Four frames make one of latents, after the first; a patch is two latents wide and high."""
    stride = loaded.processor.vae_scale_factor_temporal
    for frames in run.clip.lengths:
        if frames % stride != 1:
            raise ValueError(f"train.clip.num_frames: {frames}; expected {stride}k + 1, such as 77")
    patch = loaded.model.config.patch_size[-1]
    pipelines.check(loaded, run, loaded.processor.vae_scale_factor_spatial * patch)


def refuse(loaded: Loaded, clip: Sample) -> None:
    """Stop a clip of other than 4k + 1 frames, or not as many in all of its videos, or whose text
    holds a control token."""
    _refuse_frames(loaded, clip)
    control.refuse(loaded.processor, f"video {clip.video}: its text", clip.answer)


def _refuse_frames(loaded: Loaded, clip: Sample) -> None:
    beside = [images for name, images in clip.beside.items() if name != "reference"]
    lengths = [len(video) for video in [clip.images, *beside]]
    stride = loaded.processor.vae_scale_factor_temporal
    if len(set(lengths)) > 1 or lengths[0] % stride != 1:
        raise Unusable(
            f"video {clip.video}: {lengths} frames of each video; expected as many of each, "
            f"{stride}k + 1"
        )


def encode(
    loaded: Loaded, clip: Sample, size: tuple[int, int], guidance_frames: int | None = None
) -> "dict[str, torch.Tensor]":
    """What the frozen encoders make of a clip, at `size` (width, height) in pixels.

    Args:
        loaded: the model and the pipeline.
        clip: its frames and, beside them, `reference` (one image), `pose` and `face`; with
            `background` and `mask` (white where the character is) too it is for replacing, else for
            animating.
        size: both sides divisible by 16.
        guidance_frames: how many of the first frames are given, as when the pipeline continues a
            video: 0, 1 or 5; None draws one by the clip's `variant`, because the latents of what is
            given depend on it.

    Returns:
        `latents` (C, T, h, w); `reference` (4 + C, 1, h, w) and `given` (4 + C, T, h, w), each
        behind its mask; `pose` (C, T, h, w); `face` (3, S, side, side), bytes; `image` (D', D) from
        CLIP.

    Raises:
        Unusable: other than 4k + 1 frames, or not as many in all of its videos.
    """
    import torch
    from PIL.Image import Resampling

    if guidance_frames is None:
        guidance_frames = random.Random(clip.variant).choice(GUIDANCE_FRAMES)  # noqa: S311
    _refuse_frames(loaded, clip)
    if size[0] % 16 or size[1] % 16:
        raise ValueError(f"size: {size[0]} × {size[1]}; expected sides divisible by 16")
    if guidance_frames not in GUIDANCE_FRAMES:
        raise ValueError(f"guidance_frames: {guidance_frames}; expected one of {GUIDANCE_FRAMES}")
    [reference] = clip.beside["reference"]
    pipe, (width, height) = loaded.processor, size
    side = loaded.model.config.motion_encoder_size
    video_1CSHW = _video(pipe, clip.images, size)
    reference_1CHW = pipe.vae_image_processor.preprocess(
        reference, height=height, width=width, resize_mode="fill"
    )
    faces = [
        image.convert("RGB").resize((side, side), Resampling.LANCZOS)
        for image in clip.beside["face"]
    ]
    device = pipe.vae.device
    with torch.no_grad():
        encoded = {
            "latents": pipe.prepare_pose_latents(video_1CSHW, device=device),
            "reference": pipe.prepare_reference_image_latents(reference_1CHW, device=device),
            "given": _given(pipe, clip, video_1CSHW, guidance_frames),
            "pose": pipe.prepare_pose_latents(
                _video(pipe, clip.beside["pose"], size), device=device
            ),
            "image": pipe.encode_image(reference, device),
        }
    kept = {name: value[0].cpu() for name, value in encoded.items()}
    face_3SHW = pipelines.pixels(faces).transpose(0, 1).contiguous()
    return kept | {"face": face_3SHW}


def _video(pipe: Any, images: "Sequence[Image]", size: tuple[int, int]) -> "torch.Tensor":
    """A video (1, C, S, H, W) from -1 to 1; every video of a clip is cut alike."""
    fitted = list(video.fitted(images, size))
    made: torch.Tensor = pipe.video_processor.preprocess_video(
        fitted, height=size[1], width=size[0]
    )
    return made


def _given(
    pipe: Any, clip: Sample, video_1CSHW: "torch.Tensor", guidance_frames: int
) -> "torch.Tensor":
    """Mask and latents (1, 4 + C, T, h, w) of what is given of the video beside its reference."""
    num_frames, height, width = video_1CSHW.shape[2:]
    background_1CSHW = mask_11SHW = None
    if "background" in clip.beside:
        background_1CSHW = _video(pipe, clip.beside["background"], (width, height))
        mask_11SHW = pipe.video_processor_for_mask.preprocess_video(
            list(video.fitted(clip.beside["mask"], (width, height))), height=height, width=width
        )
    made: torch.Tensor = pipe.prepare_prev_segment_cond_latents(
        video_1CSHW[:, :, :guidance_frames] if guidance_frames else None,
        background_video=background_1CSHW,
        mask_video=mask_11SHW,
        segment_frame_length=num_frames,
        start_frame=guidance_frames,  # in front of which nothing is given
        height=height,
        width=width,
        prev_segment_cond_frames=guidance_frames or 1,
        task="replace" if "background" in clip.beside else "animate",
        device=pipe.vae.device,
    )
    return made


def text(loaded: Loaded, text: str) -> "torch.Tensor":
    """Embedding (up to 512, D) of a text, without the zeros that the pipeline fills it up with.

    Raises:
        Unusable: it holds a control token.
    """
    import torch

    pipe = loaded.processor
    control.refuse(pipe, f"the text {text!r}", text)
    with torch.no_grad():
        embedded_1LD, _ = pipe.encode_prompt(
            text,
            do_classifier_free_guidance=False,
            max_sequence_length=TEXT_LENGTH,
            device=pipe.text_encoder.device,
        )
    embedded_LD: torch.Tensor = embedded_1LD[0].cpu()
    return embedded_LD[: embedded_LD.any(dim=-1).sum()].contiguous()


def collate(encoded: "Sequence[dict[str, torch.Tensor]]") -> Batch:
    """Clips of one shape, each tensor with a batch dimension in front, texts filled up with 0."""
    return pipelines.stacked(
        [{**one, "text": _filled(one["text"]), "empty": _filled(one["empty"])} for one in encoded]
    )


def _filled(text_LD: "torch.Tensor") -> "torch.Tensor":
    from torch.nn.functional import pad

    return pad(text_LD, (0, 0, 0, TEXT_LENGTH - len(text_LD)))


@dataclass(frozen=True)
class Draws:
    """What chance decides at a step, for each sample; T counts the reference too."""

    noise_BCTHW: "torch.Tensor"
    sigma_B: "torch.Tensor"
    drop_B: "torch.Tensor"


def draw(loaded: Loaded, batch: Batch, generators: "Sequence[torch.Generator]") -> Draws:
    """Draw with one generator a sample.

    Face and text are left out together, a tenth of the time: that is what the pipeline guides away
    from. Noise levels are the pipeline's scheduler's, shifted by its `flow_shift`.
    """
    from spark_trainer.losses import flow_matching, per_sample

    x0_BCTHW = _clean(batch)
    config = loaded.processor.scheduler.config
    steps, where = config.num_train_timesteps, x0_BCTHW.device
    return Draws(
        noise_BCTHW=per_sample.normal(generators, x0_BCTHW.shape[1:], where),
        sigma_B=flow_matching.sigmas(generators, steps, config.flow_shift, where),
        drop_B=per_sample.uniform(generators, where) < pipelines.drop(batch),
    )


def _clean(batch: Batch) -> "torch.Tensor":
    """Latents (B, C, 1 + T, h, w) of the reference and of the video after it."""
    import torch

    return torch.cat([batch["reference"][:, MASK_CHANNELS:], batch["latents"]], dim=2)


def arguments(loaded: Loaded, batch: Batch, draws: Draws) -> dict[str, Any]:
    """What the network is called with, as pipeline_wan_animate.py calls it."""
    import torch

    from spark_trainer.losses import flow_matching
    from spark_trainer.losses.per_sample import spread

    x_BCTHW = flow_matching.noised(_clean(batch), draws.noise_BCTHW, draws.sigma_B)
    given_BCTHW = torch.cat([batch["reference"], batch["given"]], dim=2)
    face_B3SHW = pipelines.scaled(batch["face"])
    face_B3SHW = face_B3SHW.masked_fill(spread(draws.drop_B, face_B3SHW), -1)
    text_BLD = torch.where(draws.drop_B[:, None, None], batch["empty"], batch["text"])
    dtype = loaded.model.dtype
    return {
        "hidden_states": torch.cat([x_BCTHW, given_BCTHW], dim=1).to(dtype),
        "timestep": _timesteps(loaded, draws),
        "encoder_hidden_states": text_BLD.to(dtype),
        "encoder_hidden_states_image": batch["image"].to(dtype),
        "pose_hidden_states": batch["pose"].to(dtype),
        "face_pixel_values": face_B3SHW.to(dtype),
    }


def _timesteps(loaded: Loaded, draws: Draws) -> "torch.Tensor":
    """What the network is told of σ: 1000·σ in whole numbers, 999 at most.

    As scheduling_unipc_multistep.py, whose first σ is a hair below 1.
    """
    num_steps: int = loaded.processor.scheduler.config.num_train_timesteps
    return (draws.sigma_B * num_steps).long().clamp(max=num_steps - 1)


def losses(
    loaded: Loaded, model: Any, batch: Batch, generators: "Sequence[torch.Generator]"
) -> "torch.Tensor":
    """Loss of each sample (B,), over the latents of the reference too: sampling makes them."""
    from spark_trainer.losses import flow_matching

    draws = draw(loaded, batch, generators)
    output_BCTHW = model(**arguments(loaded, batch, draws), return_dict=False)[0]
    return flow_matching.loss(output_BCTHW, _clean(batch), draws.noise_BCTHW)


loss = pipelines.summed(losses)


def save(model: Any, folder: Path) -> None:
    """Write `transformer/`, which the pipeline takes as `transformer=` in place of its own."""
    model.save_pretrained(folder / "transformer")


def sample(
    loaded: Loaded,
    model: Any,
    clip: Sample,
    size: tuple[int, int],
    num_steps: int,
    generator: "torch.Generator",
) -> "list[Image]":
    """As many frames as the clip has, of its reference moved as its skeletons and faces."""
    names = [name for name in ("pose", "background", "mask") if name in clip.beside]
    videos = {f"{name}_video": clip.beside[name] for name in names}
    made = pipelines.using(loaded, NETWORK, model)(
        image=clip.beside["reference"][0],
        face_video=list(clip.beside["face"]),
        prompt=clip.answer,
        mode="replace" if "background" in clip.beside else "animate",
        width=size[0],
        height=size[1],
        segment_frame_length=len(clip.images),
        num_inference_steps=num_steps,
        generator=generator,
        output_type="pil",
        **{name: list(video.fitted(images, size)) for name, images in videos.items()},
    )
    return list(made.frames[0])
