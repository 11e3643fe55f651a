"""OpenAI's own file: a dictionary of `dims` and `model_state_dict` (whisper/model.py)."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.speech.formats import tensor_names
from spark_trainer.speech.formats.weights import Weights, described

if TYPE_CHECKING:
    import torch

HEADS = "alignment_heads"  # whisper.load_model leaves it unread, as it does any further key


def read(path: Path) -> Weights:
    """Read a `.pt` file; its tensors stay on the disk until they are used.

    Raises:
        ValueError: it holds anything but tensors, or no Whisper model.
    """
    checkpoint = _tensors_alone(path)
    try:
        dims, state = checkpoint["dims"], checkpoint["model_state_dict"]
        heads = int(dims["n_text_head"])
    except (KeyError, TypeError):
        raise ValueError(
            f"{path}: expected OpenAI's checkpoint of dims and model_state_dict"
        ) from None
    known = {HEADS: checkpoint[HEADS]} if HEADS in checkpoint else {}
    try:
        return described(tensor_names.to_transformers(state), heads, generation=known)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _tensors_alone(path: Path) -> Any:
    import torch

    zipped = zipfile.is_zipfile(path)  # the form since PyTorch 1.6, which alone can be mapped
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # bytes that are no pickle make its reader stumble in any way
        code = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        if code:
            raise ValueError(
                f"{path}: expected tensors alone; it is a pickle that would run "
                f"{', '.join(sorted(code))}"
            ) from None
        raise ValueError(f"{path}: no PyTorch checkpoint of tensors alone ({error})") from None


def write(path: Path, config: Any, tensors: "dict[str, torch.Tensor]", heads: Any) -> None:
    """Write a file that `whisper.load_model` reads.

    Args:
        path: where it goes.
        config: transformers' `WhisperConfig`.
        tensors: by transformers' names.
        heads: (layer, head) pairs that word times are read from; `read` takes them from the file,
            `whisper.load_model` those of the last half of the layers instead.
    """
    import torch

    dims = {
        "n_mels": config.num_mel_bins,
        "n_audio_ctx": config.max_source_positions,
        "n_audio_state": config.d_model,
        "n_audio_head": config.encoder_attention_heads,
        "n_audio_layer": config.encoder_layers,
        "n_vocab": config.vocab_size,
        "n_text_ctx": config.max_target_positions,
        "n_text_state": config.d_model,
        "n_text_head": config.decoder_attention_heads,
        "n_text_layer": config.decoder_layers,
    }
    state = {
        name: tensor.detach().to("cpu").clone()  # a view would be saved with all of its storage
        for name, tensor in tensor_names.to_openai(tensors).items()
    }
    torch.save({"dims": dims, "model_state_dict": state, HEADS: heads}, path)
