"""The sizes of published checkpoints, and models of random weights in their place.

A folder holds what a checkpoint's does, but for the weights: those are made where the model is
used, so that nothing has to be downloaded, carried or read. `random_weights` takes the place of
upstream's `from_pretrained`; all that is ours runs as it does for a user.
"""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
import train_setup
import transformers
from train_setup import Shape

from tests.families import tiny_pipelines, tokenizers

SIDE = 448  # pixels: about 256 tokens for an image, or for two frames

# From the config.json of Qwen/Qwen2-VL-2B-Instruct and -7B-Instruct.
QWEN2_VL = {
    "2B": Shape(1536, 8960, 28, 12, 2, 151936, True, 32, 1280, 16),
    "7B": Shape(3584, 18944, 28, 28, 4, 152064, False, 32, 1280, 16),
}
# From openai/whisper's large-v3; the small one for a CPU.
WHISPER = {
    "large-v3": (128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 32),
    "dry": (80, 1500, 64, 1, 2, 51865, 448, 64, 1, 2),
}

# The encoders' depth doesn't matter: they see clips and texts ahead of the training.
VISION = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}


def qwen2_vl(folder: Path, dry: bool, size: str) -> Path:
    """Write Qwen2-VL of a size without weights; returns its folder."""
    shape, side = (train_setup.SMALL, 56) if dry else (QWEN2_VL[size], SIDE)
    return train_setup.checkpoint(folder, shape, side, dtype=None)


def svd(folder: Path, dry: bool) -> Path:
    """Write Stable Video Diffusion without weights; returns its folder."""
    if dry:
        return tiny_pipelines.svd(folder)
    vision = transformers.CLIPVisionConfig(**VISION, projection_dim=1024)
    scheduler = diffusers.EulerDiscreteScheduler(prediction_type="v_prediction")
    with torch.device("meta"):
        return _written(
            folder,
            diffusers.StableVideoDiffusionPipeline(
                vae=diffusers.AutoencoderKLTemporalDecoder(
                    block_out_channels=(128, 256, 512, 512),
                    layers_per_block=2,
                    down_block_types=("DownEncoderBlock2D",) * 4,
                ),
                image_encoder=transformers.CLIPVisionModelWithProjection(vision),
                unet=diffusers.UNetSpatioTemporalConditionModel(sample_size=96),
                scheduler=scheduler,
                feature_extractor=transformers.CLIPImageProcessor(),
            ),
        )


def animatediff(folder: Path, dry: bool) -> Path:
    """Write AnimateDiff over Stable Diffusion 1.5 without weights; returns its folder."""
    if dry:
        return tiny_pipelines.animatediff(folder)
    words = tokenizers.clip()
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=2,
        num_attention_heads=12,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False)
    with torch.device("meta"):
        return _written(
            folder,
            diffusers.AnimateDiffPipeline(
                vae=diffusers.AutoencoderKL(
                    block_out_channels=(128, 256, 512, 512),
                    layers_per_block=2,
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    up_block_types=("UpDecoderBlock2D",) * 4,
                    sample_size=512,
                ),
                text_encoder=transformers.CLIPTextModel(text),
                tokenizer=words,
                unet=diffusers.UNet2DConditionModel(
                    cross_attention_dim=768, attention_head_dim=8, sample_size=64
                ),
                motion_adapter=diffusers.MotionAdapter(),
                scheduler=scheduler,
            ),
        )


def wan_animate(folder: Path, dry: bool) -> Path:
    """Write Wan2.2-Animate-14B without weights; returns its folder."""
    if dry:
        return tiny_pipelines.wan_animate(folder)
    words = tokenizers.t5()
    text = transformers.UMT5Config(
        vocab_size=len(words), d_model=4096, d_kv=64, d_ff=10240, num_layers=1, num_heads=64
    )
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
    )
    with torch.device("meta"):
        return _written(
            folder,
            diffusers.WanAnimatePipeline(
                tokenizer=words,
                text_encoder=transformers.UMT5EncoderModel(text),
                vae=diffusers.AutoencoderKLWan(),
                scheduler=scheduler,
                image_processor=transformers.CLIPImageProcessor(),
                image_encoder=transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION)),
                transformer=diffusers.WanAnimateTransformer3DModel(
                    image_dim=1280, added_kv_proj_dim=5120
                ),
            ),
        )


def _written(folder: Path, pipeline: Any) -> Path:
    """Write a pipeline's configuration: its index, that of each network, the rest as it is."""
    there = {name: part for name, part in pipeline.components.items() if part is not None}
    for name, part in there.items():
        if not isinstance(part, torch.nn.Module):
            part.save_pretrained(folder / name)
        elif hasattr(part, "save_config"):
            part.save_config(folder / name)
        else:
            part.config.save_pretrained(folder / name)
    pipeline.save_config(folder)
    return folder


@contextlib.contextmanager
def random_weights(device: str) -> Iterator[None]:
    """Let upstream's `from_pretrained` make random weights on a device and read none."""

    def image_to_text(name: str, *, dtype: Any, attn_implementation: Any = None, **_: Any) -> Any:
        config = transformers.AutoConfig.from_pretrained(name)
        chosen = {"attn_implementation": attn_implementation} if attn_implementation else {}
        with torch.device(device):
            made = transformers.AutoModelForImageTextToText.from_config(
                config, dtype=dtype, **chosen
            )
        return made.eval()

    def pipeline(kind: Any, name: str, *, dtype: dict[str, torch.dtype], **chosen: Any) -> Any:
        told = diffusers.DiffusionPipeline.load_config(name)
        made: dict[str, Any] = {}
        for part, where in told.items():
            if isinstance(where, list) and where[0] and part not in chosen:
                wanted = dtype.get(part, dtype["default"])
                made[part] = _component(name, part, where, wanted, device)
            elif isinstance(where, list):
                made[part] = None
        with torch.device(device):  # AnimateDiff's puts its network together as it begins
            whole = kind(**made)
        _leave_largest(whole)
        return whole

    upstream = transformers.AutoModelForImageTextToText, diffusers.DiffusionPipeline
    with (
        mock.patch.object(upstream[0], "from_pretrained", image_to_text),
        mock.patch.object(upstream[1], "from_pretrained", classmethod(pipeline)),
    ):
        yield


def _component(name: str, part: str, told: list[str], dtype: torch.dtype, device: str) -> Any:
    """Return a component of a pipeline: a network of random weights, anything else as it is."""
    kind = getattr(importlib.import_module(told[0]), told[1])
    if not issubclass(kind, torch.nn.Module):
        return kind.from_pretrained(name, subfolder=part)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # 17 billion weights in float32 would not fit
    try:
        with torch.device(device):
            if told[0] == "transformers":
                model = kind(kind.config_class.from_pretrained(name, subfolder=part)).to(dtype)
            else:
                model = kind.from_config(kind.load_config(name, subfolder=part))
    finally:
        torch.set_default_dtype(before)
    exact = set(model._keep_in_fp32_modules or ())
    for path, parameter in model.named_parameters():
        if exact & set(path.split(".")):
            parameter.data = parameter.data.float()
    return model


def _leave_largest(pipeline: Any) -> None:
    """Put what is not trained on the CPU, where upstream loads it to."""
    networks = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    largest = max(networks, key=lambda part: sum(p.numel() for p in part.parameters()))
    for part in networks:
        if part is not largest:
            part.to("cpu")
