"""The two configurations of a model, from the shapes of its tensors and the vocabulary."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spark_trainer.speech.formats import vocabulary

if TYPE_CHECKING:
    import torch

MELS = (80, 128)
# Of a generation configuration; marked as made from a model's, it loses Whisper's keys upstream.
DROPPED = ("forced_decoder_ids", "_from_model_config", "transformers_version")
HEAD_WIDTH = 64  # of every size of Whisper


def config(shapes: Mapping[str, "torch.Size"], heads: int | None = None) -> dict[str, Any]:
    """Return the values of transformers' `WhisperConfig`.

    Args:
        shapes: of the tensors, by transformers' names.
        heads: attention heads of a layer, where the weights tell.

    Raises:
        ValueError: these are no tensors of Whisper, or of other mels or another vocabulary.
    """
    try:
        words, width = shapes["model.decoder.embed_tokens.weight"]
        mels = shapes["model.encoder.conv1.weight"][1]
        feed_forward = shapes["model.encoder.layers.0.fc1.weight"][0]
        sound, text = (
            shapes[f"model.{side}.embed_positions.weight"][0] for side in ("encoder", "decoder")
        )
    except KeyError as error:
        raise ValueError(f"no Whisper model, {error} is missing") from None
    if mels not in MELS:
        raise ValueError(f"it takes {mels} mels; Whisper's take {' or '.join(map(str, MELS))}")
    heads = heads or width // HEAD_WIDTH
    end = vocabulary.openai(words).eot
    return {
        "model_type": "whisper",
        "vocab_size": words,
        "num_mel_bins": mels,
        "d_model": width,
        "encoder_layers": _layers(shapes, "encoder"),
        "decoder_layers": _layers(shapes, "decoder"),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": feed_forward,
        "decoder_ffn_dim": feed_forward,
        "max_source_positions": sound,
        "max_target_positions": text,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": end + 1,
        "begin_suppress_tokens": _blank(words),
    }


def generation(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of transformers' `GenerationConfig`, without `forced_decoder_ids`.

    Those would keep what is saved from being loaded again (huggingface/transformers#37172).
    Suppressed are the tokens that openai-whisper suppresses (whisper/decoding.py).

    Args:
        values: those of `config`.
        known: those that the checkpoint has itself, which stand.
    """
    words = vocabulary.openai(values["vocab_size"])
    control = {words.sot, words.transcribe, words.translate, words.sot_lm, words.sot_prev}
    built: dict[str, Any] = {
        "alignment_heads": _last_half(values),
        "begin_suppress_tokens": _blank(values["vocab_size"]),
        "bos_token_id": words.eot,
        "decoder_start_token_id": words.sot,
        "eos_token_id": words.eot,
        "is_multilingual": vocabulary.multilingual(values["vocab_size"]),
        "max_initial_timestamp_index": 50,
        "max_length": values["max_target_positions"],
        "no_timestamps_token_id": words.no_timestamps,
        "pad_token_id": words.eot,
        "prev_sot_token_id": words.sot_prev,
        "return_timestamps": False,
        "suppress_tokens": sorted({*words.non_speech_tokens, *control, words.no_speech}),
    }
    if built["is_multilingual"]:
        codes = zip(words.all_language_codes, words.all_language_tokens, strict=True)
        built["lang_to_id"] = {f"<|{code}|>": token for code, token in codes}
        built["task_to_id"] = {"transcribe": words.transcribe, "translate": words.translate}
    told = {key: value for key, value in known.items() if value is not None}
    return {key: value for key, value in (built | told).items() if key not in DROPPED}


def _blank(size: int) -> list[int]:
    """Return what a text can't begin with: a space, and the end."""
    words = vocabulary.openai(size)
    return [*words.encode(" "), words.eot]


def _last_half(values: Mapping[str, Any]) -> list[list[int]]:
    """Return every head of the last half of the layers, as both packages take for granted."""
    layers, heads = values["decoder_layers"], values["decoder_attention_heads"]
    return [list(pair) for pair in itertools.product(range(layers // 2, layers), range(heads))]


def _layers(shapes: Mapping[str, Any], side: str) -> int:
    return len({name.split(".")[3] for name in shapes if name.startswith(f"model.{side}.layers.")})
