"""Weights in other layouts than OpenAI's own, made over for its package."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spark_trainer import transcribers
from spark_trainer.config import Transcript
from spark_trainer.transcribers import listening, openai_weights, weights


def model_file(folder: Path, names: list[str]) -> Path:
    """A CTranslate2 file with one number under each name."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    tensors = [text(name) + struct.pack("<BIBIf", 1, 1, 0, 4, 1.0) for name in names]
    head = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(names))
    (folder / "model.bin").write_bytes(head + b"".join(tensors) + struct.pack("<I", 0))
    return folder


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["decoder/embeddings/weight"], "no Whisper model, 'encoder/position_encodings/encodings'"),
        (["encoder/conv1/weight", "encoder/conv1/weight_scale"], "integer weights"),
    ],
)
def test_a_folder_that_is_no_float_whisper_is_refused(
    names: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        openai_weights.from_ctranslate2(model_file(tmp_path, names))


def test_a_transformers_folder_gives_upstream_s_numbers(tmp_path: Path) -> None:
    """A small model from transformers itself; both must give the same logits."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=60,
        d_model=128,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        max_source_positions=50,
        max_target_positions=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    )
    theirs = WhisperForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = openai_weights.from_transformers(tmp_path)
    mel, tokens_BL = torch.randn(1, 80, 100), torch.tensor([[3, 10, 20, 30]])
    with torch.no_grad():
        expected = theirs(input_features=mel, decoder_input_ids=tokens_BL).logits
        found = ours(mel, tokens_BL)
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_transformers_folder_without_a_tensor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    save_file({"model.encoder.conv1.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    settings = Transcript(whisper_model=str(tmp_path), device="cpu")
    weights.check(settings)
    with pytest.raises(transcribers.ConfigError, match=r"whisper_model: .*no Whisper model"):
        transcribers.load(settings, threads=1)


def test_openai_s_own_file_is_read(
    ear: Callable[..., "Ear"],  # noqa: F821
    tmp_path: Path,
) -> None:
    model = ear("openai-whisper").model._model
    path = tmp_path / "tiny.pt"
    state = {"dims": vars(model.dims), "model_state_dict": model.state_dict()}
    torch.save(state, path)
    settings = Transcript(whisper_model=str(path), device="cpu", language="de")
    weights.check(settings)
    with pytest.raises(transcribers.ConfigError, match=r"language: expected en, .*English-only"):
        transcribers.load(settings, threads=1)
    transcribers.load(settings.model_copy(update={"language": None}), threads=1)


def test_speech_to_the_end_of_a_part_of_a_frame_is_heard_once(
    ear: Callable[..., object], every_reading: list
) -> None:
    """Of 1.006 s there are 100 frames; upstream rounds the end to the 101st, and looks for it."""
    samples = listening.read(every_reading[0].wav)
    for length in (16_000, 16_079, 16_080, 16_100, 16_159):
        sound = transcribers.Sound(samples[:length], ((0.0, length / 16_000),))
        (heard,) = ear("openai-whisper").model.transcribe([sound])
        assert len(heard.segments) <= 2
        assert all(segment.start < 1 for segment in heard.segments)
