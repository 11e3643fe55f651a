"""How weights are loaded: what a run asks for, and checkpoints that transformers reads."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from spark_trainer.config import Run
from spark_trainer.families.kinds import meta_device
from spark_trainer.system import environment

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoadOptions:
    """How weights are loaded.

    Attributes:
        from_scratch: random weights of the checkpoint's configuration.
        encoders_only: a pipeline's network stays on the disk; `model` has its `config` alone.
        on_meta: weights have shapes and no content, and no file of weights is read.
        dtype: of torch, `auto` as it was saved, None for float32.
        four_bit: in 4 bits (QLoRA).
        attention: the implementation of attention, as `train.attention` names it.
        device: type of the one that computes.
        precision: of the arithmetic, None for float32.
        packed: samples will stand one after the other in one row.
        sharded: processes will hold parts of the weights and gather them as modules are called,
            so a forward pass must call the same modules as often whatever is in the batch.
    """

    from_scratch: bool = False
    encoders_only: bool = False
    on_meta: bool = False
    dtype: "torch.dtype | str | None" = None
    four_bit: bool = False
    attention: str = "auto"
    device: str = "cpu"
    precision: "torch.dtype | None" = None
    packed: bool = False
    sharded: bool = False

    @classmethod
    def of(cls, run: Run, mostly_frozen: bool, device: str, on_meta: bool = False) -> Self:
        """Return how a run's model is loaded.

        Frozen weights below adapters, and those of families of which little learns, are held in the
        precision that they are used in.

        Args:
            run: the settings.
            mostly_frozen: whether little of the family learns, see `Kind`.
            device: type of the one that computes.
            on_meta: weights have shapes and no content.
        """
        narrow = run.finetune != "full" or mostly_frozen
        return cls(
            from_scratch=run.from_scratch,
            on_meta=on_meta,
            dtype=dtype(run) if narrow else None,
            four_bit=run.finetune == "qlora",
            attention=run.attention,
            device=device,
            precision=dtype(run),
            packed=run.packing,
            sharded=run.sharded,
        )


@dataclass(frozen=True)
class Loaded:
    """A model and the processor, or the pipeline, that feeds it."""

    model: Any
    processor: Any


def dtype(run: Run) -> "torch.dtype | None":
    """Return the precision of a run's arithmetic, None for float32."""
    import torch

    return {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}[run.mixed_precision]


def nf4(precision: "torch.dtype | str | None") -> dict[str, Any]:
    """Return bitsandbytes' settings for NF4 with double quantisation (QLoRA, arXiv:2305.14314).

    Args:
        precision: that of the matrix products.
    """
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": precision,
    }


def keep_packing(model: "torch.nn.Module") -> None:
    """Keep bitsandbytes from packing weights anew as soon as they are evaluated on a CPU.

    Where the CPU has AVX512-BF16 it does, rounds their scales to 16 bits and fails where a row is
    no multiple of 64 long.
    """
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def image_to_text(name: str, options: LoadOptions) -> Loaded:
    """Load an image-to-text checkpoint with upstream's class; never pickled weights.

    Args:
        name: hub id or local folder.
        options: how.

    Raises:
        OSError: the folder lacks a file, or holds no safetensors weights.
        ValueError: packed rows are wanted of a model whose attention is not all causal and full.
    """
    from transformers import (
        AutoConfig,
        AutoModelForImageTextToText,
        AutoProcessor,
        BitsAndBytesConfig,
    )

    environment.quiet_libraries()
    auto = AutoModelForImageTextToText
    processor = AutoProcessor.from_pretrained(name)
    config = AutoConfig.from_pretrained(name)
    chosen: dict[str, Any] = {"dtype": options.dtype or "float32"}
    if attention := _attention(config, options):
        chosen["attn_implementation"] = attention
    if options.from_scratch and not options.on_meta:
        return Loaded(auto.from_config(config, **chosen), processor)
    if options.on_meta:
        four_bit = nf4(options.dtype) if options.four_bit else None
        return Loaded(meta_device.image_to_text(config, chosen, four_bit), processor)
    if options.four_bit:
        chosen["quantization_config"] = BitsAndBytesConfig(**nf4(options.dtype))
    return Loaded(auto.from_pretrained(name, use_safetensors=True, **chosen), processor)


def _attention(config: Any, options: LoadOptions) -> Any:
    """Return the implementation of attention, by part where packed rows need their own."""
    if not options.packed or options.attention not in ("auto", "sdpa"):
        return None if options.attention == "auto" else options.attention
    from spark_trainer.families.kinds.attention import SEGMENTS, full_everywhere

    if not full_everywhere(config.get_text_config()):
        raise ValueError(
            "train.packing: the language model has layers of other than full attention; "
            "expected train.packing: false, or train.attention: flash_attention_2"
        )
    return {"": "sdpa", "text_config": SEGMENTS}
