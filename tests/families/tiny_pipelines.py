"""A tiny pipeline folder for each diffusion family, random weights from upstream's own classes.

The function is called like the family's file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
import transformers
from diffusers.image_processor import VaeImageProcessor
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import unset_fake_temporarily

from spark_trainer.data.sample import Sample
from spark_trainer.families.kinds.loading import Loaded

from . import tokenizers

CLIP_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 32,
    "image_size": 224,  # StableVideoDiffusionPipeline resizes to it whatever the configuration says
    "patch_size": 56,
}
MOTION_CHANNELS = {"4": 8, "8": 8, "16": 8}  # side of the face in pixels -> channels


def encoded(
    family: Any, loaded: Loaded, clip: Sample, size: tuple[int, int], *options: int
) -> dict[str, torch.Tensor]:
    """All that a batch holds of a clip: what its frames, its text and no text became."""
    made: dict[str, torch.Tensor] = family.encode(loaded, clip, size, *options)
    if not family.text_conditioned:
        return made
    texts = {"text": clip.answer, "empty": ""}
    return made | {name: family.text(loaded, text) for name, text in texts.items()}


def svd(folder: Path, halvings: int = 1) -> Path:
    """Latents are half as wide and high as the frames; published ones an eighth: 3 halvings."""
    torch.manual_seed(0)
    unet = diffusers.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=48,
        layers_per_block=1,
        cross_attention_dim=32,
        num_attention_heads=(2, 2),
        num_frames=4,
        sample_size=16,
    )
    vae = diffusers.AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * (halvings + 1),
        block_out_channels=(32,) * (halvings + 1),
        sample_size=32,
    )
    scheduler = diffusers.EulerDiscreteScheduler(  # stable-video-diffusion-img2vid's
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    vision = transformers.CLIPVisionConfig(**CLIP_VISION)
    return _save(
        folder,
        diffusers.StableVideoDiffusionPipeline(
            vae=vae,
            image_encoder=transformers.CLIPVisionModelWithProjection(vision),
            unet=unet,
            scheduler=scheduler,
            feature_extractor=transformers.CLIPImageProcessor(),
        ),
    )


def animatediff(folder: Path, prediction_type: str = "epsilon") -> Path:
    """Latents are half as wide and high as the frames; at most 8 of them."""
    torch.manual_seed(0)
    unet, adapter = _image_unet(), _motion_adapter(8)
    image = _stable_diffusion(unet, "linear", prediction_type)
    return _save(folder, diffusers.AnimateDiffPipeline(motion_adapter=adapter, **image))


def stable_diffusion(folder: Path) -> Path:
    """The pipeline of images that AnimateDiff's motion modules are put into, with its own noise."""
    torch.manual_seed(0)
    parts = _stable_diffusion(_image_unet(), "scaled_linear", "epsilon")
    nothing = dict.fromkeys(("safety_checker", "feature_extractor"))
    pipeline = diffusers.StableDiffusionPipeline
    return _save(folder, pipeline(**parts, **nothing, requires_safety_checker=False))


def motion_adapter(folder: Path) -> Path:
    """Motion modules for it, of at most 16 frames."""
    torch.manual_seed(0)
    return _save(folder, _motion_adapter(16))


def _image_unet() -> Any:
    return diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def _motion_adapter(max_frames: int) -> Any:
    return diffusers.MotionAdapter(
        block_out_channels=(32, 64),
        motion_layers_per_block=1,
        motion_norm_num_groups=16,
        motion_num_attention_heads=4,
        motion_max_seq_length=max_frames,
    )


def _stable_diffusion(unet: Any, beta_schedule: str, prediction_type: str) -> dict[str, Any]:
    words = tokenizers.clip()
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=words.model_max_length,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return {
        "vae": diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(32, 32),
            sample_size=32,
        ),
        "text_encoder": transformers.CLIPTextModel(text),
        "tokenizer": words,
        "unet": unet,
        "scheduler": diffusers.DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule=beta_schedule,
            steps_offset=1,
            clip_sample=False,
            prediction_type=prediction_type,
        ),
    }


def wan_animate(folder: Path) -> Path:
    """Latents are an 8th as wide and high, 4k + 1 frames make k + 1 of them; faces 16 pixels."""
    torch.manual_seed(0)
    words = tokenizers.t5()
    vision = transformers.CLIPVisionConfig(**CLIP_VISION)
    text = transformers.UMT5Config(
        vocab_size=len(words), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    return _save(
        folder,
        diffusers.WanAnimatePipeline(
            tokenizer=words,
            text_encoder=transformers.UMT5EncoderModel(text),
            vae=diffusers.AutoencoderKLWan(
                base_dim=4,
                z_dim=16,
                dim_mult=[1, 1, 1, 1],
                num_res_blocks=1,
                temperal_downsample=[False, True, True],
            ),
            scheduler=diffusers.UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
            ),
            image_processor=transformers.CLIPImageProcessor(),
            image_encoder=transformers.CLIPVisionModel(vision),
            transformer=_wan_transformer(),
        ),
    )


def _wan_transformer() -> Any:
    """A face adapter after the first of two blocks."""
    model = diffusers.WanAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        text_dim=32,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        image_dim=32,
        added_kv_proj_dim=48,
        rope_max_seq_len=32,
        motion_encoder_channel_sizes=MOTION_CHANNELS,
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    # Upstream starts the padding token at 0; training has moved it.
    torch.nn.init.normal_(model.face_encoder.padding_tokens)
    return model


def _save(folder: Path, pipeline: Any) -> Path:
    """The folder holds what upstream's `from_pretrained` needs."""
    pipeline.save_pretrained(folder)
    return folder


@contextmanager
def on_a_fake_gpu(loaded: Loaded) -> Iterator[None]:
    """Let a pipeline stand on a GPU that isn't there: torch checks where its tensors are.

    Nothing has content; what meets a tensor on another device raises RuntimeError, as on a GPU.
    """
    parts = loaded.processor.components.values()
    networks = [part for part in parts if isinstance(part, torch.nn.Module)]
    read = VaeImageProcessor.preprocess

    def preprocess(*args: Any, **options: Any) -> torch.Tensor:
        with unset_fake_temporarily():  # it asks for the least value of the pixels
            return read(*args, **options)

    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(VaeImageProcessor, "preprocess", preprocess),
    ):
        for module in (module for network in networks for module in network.modules()):
            for held in (module._parameters, module._buffers):
                held |= {name: _moved(value) for name, value in held.items() if value is not None}
        yield


def _moved(value: torch.Tensor) -> torch.Tensor:
    there = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return torch.nn.Parameter(there, False) if isinstance(value, torch.nn.Parameter) else there
