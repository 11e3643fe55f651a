"""Whisper's weights as transformers takes them, wherever they were read from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_trainer.speech.formats import sizes

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Weights:
    """A model that was read.

    Attributes:
        config: the values of transformers' `WhisperConfig`.
        generation: the values of its `GenerationConfig`; nothing in it is left to be guessed.
        tensors: by the names of `WhisperForConditionalGeneration`, in the precision of the file;
            the output layer, which is tied, is not among them.
    """

    config: dict[str, Any]
    generation: dict[str, Any]
    tensors: dict[str, "torch.Tensor"]


def described(
    tensors: "dict[str, torch.Tensor]",
    heads: int | None = None,
    config: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = None,
) -> Weights:
    """Return tensors together with what their shapes say, and what a checkpoint says beside that.

    Args:
        tensors: by transformers' names.
        heads: attention heads of a layer, where the weights tell.
        config: further values of `WhisperConfig`; those of the shapes stand.
        generation: values of `GenerationConfig`, which stand.

    Raises:
        ValueError: these are no tensors of Whisper, or of other mels or another vocabulary.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    found = sizes.config(shapes, heads)
    return Weights((config or {}) | found, sizes.generation(found, generation or {}), tensors)
