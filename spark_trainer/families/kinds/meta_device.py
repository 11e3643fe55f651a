"""Models on torch's meta device: every weight has its shape and type, none has content.

What a run takes of memory is computed with them before its weights are loaded; of a checkpoint
only the configuration is read.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def image_to_text(config: Any, chosen: dict[str, Any], four_bit: dict[str, Any] | None) -> Any:
    """Return the model of an image-to-text checkpoint, as `from_pretrained` would load it.

    Args:
        config: the checkpoint's.
        chosen: precision and attention, as upstream's class is told.
        four_bit: bitsandbytes' settings, where weights are to be in 4 bits.
    """
    import torch
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, **chosen)
    exact = set(model._keep_in_fp32_modules_strict)
    if chosen["dtype"] == torch.float16:
        exact |= set(model._keep_in_fp32_modules)
    _widen(model, exact)
    if four_bit:
        asked = BitsAndBytesConfig(**four_bit)
        quantizer = AutoHfQuantizer.from_config(asked, pre_quantized=False)
        quantizer.preprocess_model(model, device_map=None)
        quantizer.postprocess_model(model)
    return model


def pipeline(
    name: str, class_name: str, network: str, dtype: "torch.dtype", four_bit: dict[str, Any] | None
) -> Any:
    """Return a pipeline of diffusers as its `from_pretrained` would; the VAE stays in float32.

    Args:
        name: hub id, or a folder with `model_index.json`.
        class_name: upstream's class of the pipeline.
        network: the component that is trained, and that alone is quantised.
        dtype: of the other components.
        four_bit: bitsandbytes' settings, where the network is to be in 4 bits.
    """
    import diffusers
    import torch

    made: dict[str, Any] = {}
    for part, told in diffusers.DiffusionPipeline.load_config(name).items():
        if isinstance(told, list) and told[0]:
            made[part] = _component(name, part, told, torch.float32 if part == "vae" else dtype)
    with torch.device("meta"):  # AnimateDiff's puts its network together as it begins
        pipe = getattr(diffusers, class_name)(**made)
    if four_bit:
        _quantise(getattr(pipe, network), four_bit)
    return pipe


def _component(name: str, part: str, told: list[str], dtype: "torch.dtype") -> Any:
    """Return a component of a pipeline: modules on the meta device, anything else as it is."""
    import torch

    kind = getattr(importlib.import_module(told[0]), told[1])
    if not issubclass(kind, torch.nn.Module):
        return kind.from_pretrained(name, subfolder=part)
    with torch.device("meta"):
        if told[0] == "transformers":
            model = kind(kind.config_class.from_pretrained(name, subfolder=part))
        else:
            model = kind.from_config(kind.load_config(name, subfolder=part))
        torch.nn.Module.to(model, dtype)  # diffusers' own warns of what `_widen` does next
    _widen(model, set(model._keep_in_fp32_modules or ()))
    return model


def _quantise(model: Any, four_bit: dict[str, Any]) -> None:
    """Replace the linear layers of a network of diffusers by those of 4 bits."""
    from diffusers import BitsAndBytesConfig
    from diffusers.quantizers.auto import DiffusersAutoQuantizer

    asked = BitsAndBytesConfig(**four_bit)
    quantizer = DiffusersAutoQuantizer.from_config(asked, pre_quantized=False)
    exact = list(model._keep_in_fp32_modules or ())
    quantizer.preprocess_model(model, device_map=None, keep_in_fp32_modules=exact)
    model.is_loaded_in_4bit = True


def _widen(model: "torch.nn.Module", exact: set[str]) -> None:
    """Hold in float32 what upstream wants held so: parameters below modules of these names."""
    for name, parameter in model.named_parameters():
        if exact & set(name.split(".")):
            parameter.data = parameter.data.float()
