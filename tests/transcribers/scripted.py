"""A model of Whisper's that writes the same tokens whatever it hears."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from spark_trainer.speech import formats

SIZE, WIDTH = 51865, 64  # tokens of a multilingual model, numbers of a state
PROMPT = 3  # tokens: start, language, task
BEGIN = 50364  # the token of 0.00 s
END = 50257


def write(folder: Path, tokens: Sequence[int]) -> Path:
    """Write a model for openai-whisper and faster-whisper whose layers do nothing.

    A state is then what its place adds, which is the embedding of the token that comes next.
    """
    torch.manual_seed(0)
    sizes = {"d_model": WIDTH, "encoder_ffn_dim": 4 * WIDTH, "decoder_ffn_dim": 4 * WIDTH}
    sizes |= {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    control = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": END}
    control |= {"decoder_start_token_id": END + 1}
    config = WhisperConfig(vocab_size=SIZE, encoder_layers=1, decoder_layers=1, **sizes, **control)
    model = WhisperForConditionalGeneration(config)
    decoder = model.model.decoder
    with torch.no_grad():
        for parameter in decoder.layers.parameters():
            parameter.zero_()
        words = torch.nn.functional.normalize(torch.randn(SIZE, WIDTH))
        decoder.embed_tokens.weight.copy_(3 * words)
        decoder.embed_positions.weight.copy_(100 * words[END])
        for place, token in enumerate(tokens, start=PROMPT - 1):
            decoder.embed_positions.weight[place] = 100 * words[token]
    formats.write(folder, model, formats.processor(config.to_dict()), ("hf", "ct2"))
    return folder
