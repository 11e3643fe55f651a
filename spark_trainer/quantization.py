"""The settings for weights in four bits."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def nf4(dtype: "torch.dtype | str | None") -> dict[str, Any]:
    """Return bitsandbytes' settings for NF4 with double quantisation (QLoRA, arXiv:2305.14314).

    Args:
        dtype: the precision of the matrix products.
    """
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }
