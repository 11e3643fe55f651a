"""What a pass of a tiny model asks of a device, counted: kernels, casts, attention, waits."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

# The device has to be waited for, so that the host learns a number or a shape.
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}


@dataclass
class Asked:
    """Calls by name, casts among them, and the shapes of attention: B, H, Lq, Lk.

    Calls of the varlen kernel have as B their segments and as lengths the longest of them.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    casts: Counter[str] = field(default_factory=Counter)
    attention: Counter[tuple[int, ...]] = field(default_factory=Counter)
    varlen: Counter[tuple[int, ...]] = field(default_factory=Counter)
    waits: int = 0

    def beyond(self, other: "Asked") -> "Asked":
        """What this one has more of, such as for one layer more."""
        return Asked(
            self.kernels - other.kernels,
            self.casts - other.casts,
            self.attention - other.attention,
            self.varlen - other.varlen,
            self.waits - other.waits,
        )


class _Counting(TorchDispatchMode):
    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked = asked

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        if func.is_view:
            return made
        self._asked.kernels[name] += 1
        self._asked.waits += name in WAITS
        if name == "_to_copy" and made.dtype != args[0].dtype:
            self._asked.casts[f"{args[0].dtype} to {made.dtype}"] += 1
        if name == "_varlen_attn":
            self._asked.varlen[(len(args[3]) - 1, args[0].shape[1], *args[5:7])] += 1
        if name.startswith("_scaled_dot_product") and not name.endswith("backward"):
            query, key = args[:2]
            self._asked.attention[(*query.shape[:3], key.shape[2])] += 1
        return made


@contextmanager
def asked() -> Iterator[Asked]:
    """What is asked of the device inside; on a CPU `tolist` goes past what dispatches."""
    found, tolist = Asked(), torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> Any:
        found.waits += 1
        return tolist(tensor)

    with patch.object(torch.Tensor, "tolist", counted), _Counting(found):
        yield found


def deeper(checkpoint: Path, folder: Path, layers: int, tower: int | None = None) -> Path:
    """The checkpoint of a family that writes, with so many layers that write, or that see."""
    shutil.copytree(checkpoint, folder)
    config = transformers.AutoConfig.from_pretrained(checkpoint)
    if tower:
        config.vision_config.depth = tower
    text = config.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:1] * layers
    torch.manual_seed(0)
    transformers.AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    return folder
