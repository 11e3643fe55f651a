"""Trainable model families: one module each, found by the `model_type` of a checkpoint.

A family module holds facts at its head and then its verbs:

    MODEL_TYPES     values of `model_type` in a checkpoint's config.json that it trains
    load            (name, from_scratch) -> Loaded
    collate         (loaded, samples) -> batch of tensors
    targets         (batch) -> how many tokens its loss is over
    loss            (loaded, model, batch) -> sum of the token losses
    generate        (loaded, model, images) -> captions
    save            (loaded, model, folder)

`model` is the network in training, which may wrap `loaded.model` for several processes.
"""

import importlib
import json
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from spark_trainer.data.dataset import Sample

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@dataclass(frozen=True)
class Loaded:
    """A model and the processor that feeds it."""

    model: Any
    processor: Any


class Family(Protocol):
    """What a family module offers."""

    MODEL_TYPES: tuple[str, ...]

    def load(self, name: str, from_scratch: bool) -> Loaded: ...
    def collate(self, loaded: Loaded, samples: Sequence[Sample]) -> "dict[str, torch.Tensor]": ...
    def targets(self, batch: "dict[str, torch.Tensor]") -> "torch.Tensor": ...
    def loss(
        self, loaded: Loaded, model: Any, batch: "dict[str, torch.Tensor]"
    ) -> "torch.Tensor": ...
    def generate(self, loaded: Loaded, model: Any, images: "Sequence[Image]") -> list[str]: ...
    def save(self, loaded: Loaded, model: Any, folder: Path) -> None: ...


def names() -> list[str]:
    """Every family, from the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(model_name: str) -> Family:
    """The family that trains a checkpoint.

    Args:
        model_name: hub id, or a folder with `config.json`.

    Raises:
        ValueError: no family trains it; the message lists those that are known.
    """
    model_type = _model_type(model_name)
    known: dict[str, str] = {}
    for name in names():
        family = cast(Family, importlib.import_module(f"{__name__}.{name}"))
        if model_type in family.MODEL_TYPES:
            return family
        known |= dict.fromkeys(family.MODEL_TYPES, name)
    raise ValueError(
        f"train.model_name: {model_name} is a {model_type!r} checkpoint; "
        f"expected one of: {', '.join(sorted(known))}"
    )


def _model_type(model_name: str) -> str | None:
    """`model_type` in the checkpoint's config.json."""
    path = Path(model_name) / "config.json"
    if Path(model_name).is_dir():
        if not path.is_file():
            raise ValueError(f"train.model_name: {model_name} holds no config.json")
        return cast("str | None", json.loads(path.read_text(encoding="utf-8")).get("model_type"))
    from transformers import PretrainedConfig

    values, _ = PretrainedConfig.get_config_dict(model_name)
    return cast("str | None", values.get("model_type"))
