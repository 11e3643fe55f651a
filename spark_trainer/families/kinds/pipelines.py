"""Upstream's pipeline folders, and frames on the way into a pipeline and out of it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from spark_trainer.data.sample import Unusable
from spark_trainer.families.kinds import meta_device
from spark_trainer.families.kinds.clips import DROPOUT
from spark_trainer.families.kinds.loading import Loaded, LoadOptions, nf4
from spark_trainer.system import environment

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

GUIDANCE_DROPOUT = (
    0.1  # how often a condition is left out, for classifier-free guidance (arXiv:2207.12598)
)
FRAMES_AT_ONCE = 8  # that a frozen image encoder takes


def load(name: str, options: LoadOptions, class_name: str, network: str) -> Loaded:
    """Load a pipeline with upstream's class; never pickled weights, never a repository's code.

    The VAE stays in float32, whatever the rest is in: latents are made once and learnt many times.

    Args:
        name: hub id, or a folder with `model_index.json`.
        options: how the network and the encoders are loaded; in 4 bits is the network alone.
        class_name: upstream's class of the pipeline.
        network: the pipeline's component that is trained.

    Raises:
        OSError: there is no such pipeline, or it lacks safetensors weights.
        ValueError: it is another pipeline, or 4 bits are wanted without a GPU.
    """
    import diffusers
    import torch

    environment.quiet_libraries()
    index = diffusers.DiffusionPipeline.load_config(name)
    if (found := index.get("_class_name")) != class_name:
        raise ValueError(f"train.model_name: {name} is a {found}; expected a {class_name}")
    dtype = options.dtype if isinstance(options.dtype, torch.dtype) else torch.float32
    chosen: dict[str, Any] = {"dtype": {"default": dtype, "vae": torch.float32}}
    if options.four_bit and not options.on_meta:
        if not torch.cuda.is_available():  # diffusers refuses to quantise without one
            raise ValueError("train.finetune: qlora of a pipeline needs a GPU; expected lora")
        chosen["quantization_config"] = _four_bit(options, network)
    if options.encoders_only:
        chosen[network] = None
    if options.on_meta:
        four_bit = nf4(options.dtype) if options.four_bit else None
        pipeline = meta_device.pipeline(name, class_name, network, dtype, four_bit)
    else:
        made = getattr(diffusers, class_name)
        pipeline = made.from_pretrained(name, use_safetensors=True, **chosen)
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if options.encoders_only:
        shape = getattr(diffusers, index[network][1]).load_config(name, subfolder=network)
        return Loaded(SimpleNamespace(config=SimpleNamespace(**shape)), pipeline)
    model = getattr(pipeline, network)
    if options.from_scratch and not options.on_meta:
        model = type(model).from_config(model.config)
        pipeline.register_modules(**{network: model})
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # 4 bits are kept as bytes
    return Loaded(model, pipeline)


def own_size(name: str, class_name: str, network: str) -> tuple[int, int]:
    """Tell width and height, in pixels, of what a pipeline makes where none is asked for.

    They are the defaults of upstream's `__call__`, or its `unet.config.sample_size` times the
    VAE's factor where it has none.

    Args:
        name: hub id, or a folder with `model_index.json`.
        class_name: upstream's class of the pipeline.
        network: the pipeline's component that is trained.

    Raises:
        OSError: there is no such pipeline.
    """
    import inspect

    import diffusers

    asked = inspect.signature(getattr(diffusers, class_name).__call__).parameters
    width, height = asked["width"].default, asked["height"].default
    if width and height:
        return width, height
    index = diffusers.DiffusionPipeline.load_config(name)
    shape, vae = (
        getattr(diffusers, index[part][1]).load_config(name, subfolder=part)
        for part in (network, "vae")
    )
    side = shape["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    return side, side


def _four_bit(options: LoadOptions, network: str) -> Any:
    from diffusers import PipelineQuantizationConfig

    return PipelineQuantizationConfig(
        quant_backend="bitsandbytes_4bit",
        quant_kwargs=nf4(options.dtype),
        components_to_quantize=[network],
    )


def check_adapter(pipeline: Any) -> None:
    """Stop where a class of pipelines loads no low-rank adapters.

    Raises:
        ValueError: it does not.
    """
    if not hasattr(pipeline, "save_lora_weights"):
        raise ValueError(f"train.save: {pipeline.__name__} loads no adapter; expected merged")


def place(
    loaded: Loaded, device: "torch.device", names: Sequence[str] | None = None
) -> "dict[str, torch.device]":
    """Move frozen parts of the pipeline to a device, all or those of these names.

    Returns:
        Where each of them was.
    """
    import torch

    before = {}
    for name, part in loaded.processor.components.items():
        frozen = isinstance(part, torch.nn.Module) and part is not loaded.model
        if frozen and (names is None or name in names):
            before[name] = next(part.parameters()).device
            part.to(device)
    return before


@contextlib.contextmanager
def placed(loaded: Loaded, device: "torch.device") -> Iterator[None]:
    """Have all frozen parts on a device for a while, then each where it was.

    What is not needed for the loss need not fill the memory.
    """
    before = place(loaded, device)
    try:
        yield
    finally:
        for name, there in before.items():
            place(loaded, there, (name,))


def dropout(clips: Mapping[str, Any]) -> float:
    """Return how often a condition of these clips is left out."""
    return float(clips.get(DROPOUT, GUIDANCE_DROPOUT))


def using(loaded: Loaded, network: str, model: Any) -> Any:
    """Return upstream's pipeline around the network in training, put in evaluation mode."""
    made = type(loaded.processor)(**{**loaded.processor.components, network: model.eval()})
    made.set_progress_bar_config(disable=True)
    return made


def decoded(loaded: Loaded, latents: "torch.Tensor", *how: int) -> "list[Image]":
    """Return frames of what a pipeline left as latents, decoded in the VAE's own precision.

    The pipeline itself would not cast them: they come in the network's, which has 16 bits where its
    weights are shared out.
    """
    import torch

    pipe = loaded.processor
    with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
        video = pipe.decode_latents(latents.to(pipe.vae.dtype), *how)
    return list(pipe.video_processor.postprocess_video(video, output_type="pil")[0])


def save_adapter(loaded: Loaded, network: str, model: Any, folder: Path) -> None:
    """Write low-rank adapters as the pipeline's own `load_lora_weights` reads them.

    Raises:
        ValueError: upstream's pipeline reads none.
    """
    from peft import get_peft_model_state_dict

    pipeline = type(loaded.processor)
    check_adapter(pipeline)
    pipeline.save_lora_weights(
        folder,
        **{
            f"{network}_lora_layers": get_peft_model_state_dict(model),
            f"{network}_lora_adapter_metadata": model.peft_config["default"].to_dict(),
        },
    )


def merge(model: Any) -> None:
    """Put low-rank adapters into the weights below them, which leaves a network without any."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            above, _, last = name.rpartition(".")
            setattr(model.get_submodule(above), last, layer.get_base_layer())
    del model.peft_config


def merged(base: Any, model: Any) -> Any:
    """Return a freshly loaded network with a trained one's adapters in it.

    It is exact whatever they were trained over; what they changed is what requires gradients.
    """
    from peft import (
        get_peft_model_state_dict,
        inject_adapter_in_model,
        set_peft_model_state_dict,
    )
    from peft.tuners.tuners_utils import BaseTunerLayer

    inject_adapter_in_model(model.peft_config["default"], base.requires_grad_(False))
    set_peft_model_state_dict(base, get_peft_model_state_dict(model))
    changed = [layer for layer in base.modules() if isinstance(layer, BaseTunerLayer)]
    weights = [layer.get_base_layer().weight for layer in changed]
    merge(base)
    for weight in weights:
        weight.requires_grad_(True)
    return base


def pixels(images: "Sequence[Image]") -> "torch.Tensor":
    """Return bytes (T, C, H, W) of images of one size: a quarter of what floats would take."""
    import numpy as np
    import torch

    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


def scaled(pixels: "torch.Tensor") -> "torch.Tensor":
    """Return bytes as numbers from -1 to 1, rounded as upstream's image_processor.py does."""
    return 2.0 * (pixels.float() / 255.0) - 1.0


def image_latents(vae: Any, pixels_TCHW: "torch.Tensor") -> "torch.Tensor":
    """Return unscaled latents (T, c, h, w) of frames (T, C, H, W) from -1 to 1, by an image's VAE.

    The mode of the VAE's distribution, so that a clip's latents are the same whenever they are
    made; in the VAE's precision, also where the network's arithmetic is in half.
    """
    import torch

    with torch.no_grad(), torch.autocast(pixels_TCHW.device.type, enabled=False):
        parts = [
            vae.encode(part.to(vae.device, vae.dtype)).latent_dist.mode()
            for part in torch.split(pixels_TCHW, FRAMES_AT_ONCE)
        ]
    return torch.cat(parts)


def fps(times: Sequence[float], video: str) -> float:
    """Return the mean frames a second of frames at these times in seconds.

    Raises:
        Unusable: fewer than two frames, or times that don't rise.
    """
    seconds = times[-1] - times[0] if times else 0.0
    if seconds <= 0:
        raise Unusable(f"video {video}: frames at {list(times)} s have no rate; expected two")
    return (len(times) - 1) / seconds


def stacked(clips: "Sequence[dict[str, torch.Tensor]]") -> "dict[str, torch.Tensor]":
    """Return clips of one shape together: of each name one tensor (batch, ...)."""
    import torch

    return {name: torch.stack([one[name] for one in clips]) for name in clips[0]}
