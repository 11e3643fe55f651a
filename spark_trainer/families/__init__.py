"""Trainable model families: one module each, found by what a checkpoint says of itself.

A family module holds facts at its head and then its verbs. Those of every family:

    MODEL_TYPES     values of `model_type` in a checkpoint's config.json that it trains, and of
                    `_class_name` in a pipeline's model_index.json
    ONE_FRAME       whether a sample is one frame; else all frames of a video at once
    PACKS           whether samples may stand one after the other in one row
    TAG             what the hub calls such a model
    PARTS           part of the model -> expressions that the beginning of its parameters' names
                    matches; the longest match decides
    FROZEN          parts that stay as they are, unless the run's `freeze` says otherwise
    LORA_TARGETS    expression over the full names of the layers that get a low-rank adapter

    load            (name, wanted) -> Loaded
    loss            (loaded, model, batch) -> sum over what the batch has to learn

`model` is the network in training, which may wrap `loaded.model` for several processes. A batch
tells what its loss is a sum over: `labels` (rows, length), IGNORED where there is nothing to learn,
or `seeds`, a number for each clip. Where `input_ids` leave out the image or the answer, the batch
tells its TOKENS too; `inputs` takes both away.

The other verbs are one of two sets. `Generates` writes text:

    encode          (loaded, sample, max_length) -> Encoded: one sample's tensors
    collate         (loaded, encoded, packed) -> Batch
    generate        (loaded, model, sample, max_new_tokens) -> text

`Films` makes videos, see pipelines.py.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from spark_trainer.config import Run
from spark_trainer.data.sample import Needs, Sample
from spark_trainer.quantization import nf4

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

IGNORED = -100  # torch's `cross_entropy` leaves such labels out
PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
TOKENS = "num_tokens"  # of a batch, for people, where `input_ids` are not all that is read
Batch = dict[str, Any]  # tensors, and what the forward pass takes beside them


@dataclass(frozen=True)
class Wanted:
    """How weights are loaded: `dtype` of torch, `auto` as it was saved, None for float32.

    With `encoders_only` a pipeline's network stays on the disk: `model` has its `config` alone.

    `sharded`: processes will hold shares of them and gather them as modules are called, so a
    forward pass must call the same modules as often whatever is in the batch.
    """

    from_scratch: bool = False
    encoders_only: bool = False
    dtype: "torch.dtype | str | None" = None
    four_bit: bool = False
    attention: str = "auto"
    packed: bool = False
    sharded: bool = False


@dataclass(frozen=True)
class Loaded:
    """A model and the processor that feeds it."""

    model: Any
    processor: Any


@dataclass(frozen=True)
class Encoded:
    """One sample as tensors: those of a token each (L), and those of its images.

    `labels` (L) is IGNORED where there is nothing to learn; `cut` says that the text was too long.
    """

    tokens: "dict[str, torch.Tensor]"
    labels: "torch.Tensor"
    vision: "dict[str, torch.Tensor]"
    cut: bool


class Family(Protocol):
    """What every family module offers."""

    MODEL_TYPES: tuple[str, ...]
    ONE_FRAME: bool
    PACKS: bool
    TAG: str
    PARTS: dict[str, tuple[str, ...]]
    FROZEN: tuple[str, ...]
    LORA_TARGETS: str

    def load(self, name: str, wanted: Wanted) -> Loaded: ...
    def loss(self, loaded: Loaded, model: Any, batch: Batch) -> "torch.Tensor": ...


@runtime_checkable
class Generates(Family, Protocol):
    """A family that writes text; its samples become tensors where they are decoded."""

    def encode(self, loaded: Loaded, sample: Sample, max_length: int) -> Encoded: ...
    def collate(self, loaded: Loaded, encoded: Sequence[Encoded], packed: bool) -> Batch: ...
    def generate(self, loaded: Loaded, model: Any, sample: Sample, max_new_tokens: int) -> str: ...


@runtime_checkable
class Films(Family, Protocol):
    """A family that makes videos; its frozen encoders run where the network does."""

    NEEDS: Needs
    EACH_STEP: tuple[str, ...]
    RECOMPUTED: str
    FLIPS: bool
    PIPELINE: str
    NETWORK: str
    USE: dict[str, str]

    def check(self, loaded: Loaded, run: Run) -> None: ...
    def refuse(self, loaded: Loaded, clip: Sample) -> None: ...
    def encode(
        self, loaded: Loaded, clip: Sample, size: tuple[int, int]
    ) -> "dict[str, torch.Tensor]": ...
    def collate(self, encoded: "Sequence[dict[str, torch.Tensor]]") -> Batch: ...
    def save(self, model: Any, folder: Path) -> None: ...
    def sample(
        self,
        loaded: Loaded,
        model: Any,
        clip: Sample,
        size: tuple[int, int],
        num_steps: int,
        generator: "torch.Generator",
    ) -> "list[Image]": ...


@runtime_checkable
class Reads(Films, Protocol):
    """A family that makes videos and is told what they show."""

    def text(self, loaded: Loaded, text: str) -> "torch.Tensor": ...


def kind(family: Family) -> str:
    """The `train.model_type` under which a family is trained."""
    return "diffusion" if isinstance(family, Films) else "vision_language"


def names() -> list[str]:
    """Every family, from the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(model_name: str) -> Family:
    """The family that trains a checkpoint.

    Args:
        model_name: hub id, or a folder with `config.json` or `model_index.json`.

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


def part(family: Family, parameter: str) -> str:
    """Which of the family's parts a parameter belongs to: the longest matching beginning."""
    matches = [
        (found.end(), name)
        for name, starts in family.PARTS.items()
        for start in starts
        if (found := re.match(start, parameter))
    ]
    return max(matches)[1]


def load(name: str, wanted: Wanted) -> Loaded:
    """Load an image-to-text checkpoint with upstream's class; never pickled weights.

    Args:
        name: hub id or local folder.
        wanted: how.

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

    auto = AutoModelForImageTextToText
    processor = AutoProcessor.from_pretrained(name)
    config = AutoConfig.from_pretrained(name)
    options: dict[str, Any] = {"dtype": wanted.dtype or "float32"}
    if attention := _attention(config, wanted):
        options["attn_implementation"] = attention
    if wanted.from_scratch:
        return Loaded(auto.from_config(config, **options), processor)
    if wanted.four_bit:
        options["quantization_config"] = BitsAndBytesConfig(**nf4(wanted.dtype))
    return Loaded(auto.from_pretrained(name, use_safetensors=True, **options), processor)


def groups(encoded: Sequence[Encoded]) -> list[list[Encoded]]:
    """Samples that fit in one batch: videos (1, T, C, H, W) only beside those of as many frames."""
    found: dict[int, list[Encoded]] = {}
    for one in encoded:
        found.setdefault(num_frames(one.vision), []).append(one)
    return list(found.values())


def num_frames(seen: "dict[str, torch.Tensor]") -> int:
    """Frames T of a video (1, T, C, H, W), 0 where a family flattens them."""
    video = seen.get("pixel_values_videos")
    return video.shape[1] if video is not None and video.ndim == 5 else 0


def pad(encoded: Sequence[Encoded], pad_id: int) -> Batch:
    """A row for each sample, filled up on the right; the images' tensors one after the other."""
    from torch.nn.utils.rnn import pad_sequence

    batch: Batch = {"labels": [one.labels for one in encoded]}
    fills = {"input_ids": pad_id, "labels": IGNORED}
    batch |= {name: [one.tokens[name] for one in encoded] for name in encoded[0].tokens}
    for name, rows in batch.items():
        batch[name] = pad_sequence(rows, batch_first=True, padding_value=fills.get(name, 0))
    return batch | vision([one.vision for one in encoded])


def inputs(batch: Batch) -> Batch:
    """What a forward pass takes of a batch."""
    return {name: value for name, value in batch.items() if name not in ("labels", TOKENS)}


def vision(seen: "Sequence[dict[str, torch.Tensor]]") -> Batch:
    """The images' tensors of all samples one after the other, their second dimension filled up."""
    return {name: _join([one[name] for one in seen]) for name in seen[0]}


def _join(tensors: "list[torch.Tensor]") -> "torch.Tensor":
    import torch
    from torch.nn.functional import pad as fill

    if tensors[0].ndim > 2:
        width = max(tensor.shape[1] for tensor in tensors)
        tensors = [
            fill(tensor, (0, 0) * (tensor.ndim - 2) + (0, width - tensor.shape[1]))
            for tensor in tensors
        ]
    return torch.cat(tensors)


def _attention(config: Any, wanted: Wanted) -> Any:
    """Implementation of attention, by part where packed rows need their own."""
    if not wanted.packed or wanted.attention not in ("auto", "sdpa"):
        return None if wanted.attention == "auto" else wanted.attention
    from spark_trainer.packing import SEGMENTS

    text = config.get_text_config()
    kinds = set(text.to_dict().get("layer_types") or ["full_attention"])
    if kinds != {"full_attention"} or text.to_dict().get("sliding_window"):
        raise ValueError(
            "train.packing: the language model has layers of other than full attention; "
            "expected train.packing: false, or train.attention: flash_attention_2"
        )
    return {"": "sdpa", "text_config": SEGMENTS}


def _model_type(model_name: str) -> str | None:
    """What a checkpoint's config.json or a pipeline's model_index.json says that it is."""
    if Path(model_name).is_dir():
        for file, key in (("model_index.json", "_class_name"), ("config.json", "model_type")):
            path = Path(model_name) / file
            if path.is_file():
                return cast("str | None", json.loads(path.read_text(encoding="utf-8")).get(key))
        raise ValueError(
            f"train.model_name: {model_name} holds no config.json and no model_index.json"
        )
    from transformers import PretrainedConfig

    try:
        values, _ = PretrainedConfig.get_config_dict(model_name)
    except OSError:
        from diffusers import DiffusionPipeline

        try:
            values = DiffusionPipeline.load_config(model_name)
        except OSError:
            values = {}
        if "_class_name" not in values:
            raise
    return cast("str | None", values.get("model_type") or values.get("_class_name"))
