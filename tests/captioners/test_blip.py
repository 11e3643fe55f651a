"""BLIP against upstream's own recipe, on a tiny checkpoint with random weights."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import BlipConfig, BlipForConditionalGeneration, BlipProcessor

from spark_trainer import captioners
from spark_trainer.config import Captioning, ConfigError

TINY = Path(__file__).parents[2] / "config/demo/blip-small"


@pytest.fixture(scope="module")
def model() -> BlipForConditionalGeneration:
    """Weights wide enough that other pictures give other words."""
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(BlipConfig.from_pretrained(TINY)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    return model


@pytest.fixture(scope="module")
def checkpoint(
    model: BlipForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The model and its processor as a folder."""
    folder = tmp_path_factory.mktemp("blip")
    BlipProcessor.from_pretrained(TINY).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def settings(folder: Path, num_beams: int) -> Captioning:
    """BLIP from a folder, on the CPU."""
    return Captioning(
        captioner_backend="blip",
        model_name=str(folder),
        num_beams=num_beams,
        max_new_tokens=12,
        device="cpu",
    )


@pytest.mark.parametrize("num_beams", [1, 3])
def test_captions_are_those_of_upstream_and_of_any_batch(
    num_beams: int, checkpoint: Path, pictures: dict[str, Path]
) -> None:
    processor = BlipProcessor.from_pretrained(checkpoint)
    upstream = BlipForConditionalGeneration.from_pretrained(checkpoint)
    expected = []
    for path in pictures.values():
        inputs = processor(Image.open(path).convert("RGB"), return_tensors="pt")
        ids_BL = upstream.generate(**inputs, max_new_tokens=12, num_beams=num_beams)
        expected.append(processor.decode(ids_BL[0], skip_special_tokens=True).strip())
    captioner = captioners.load(settings(checkpoint, num_beams), threads=2)
    assert [captioner.predict(path) for path in pictures.values()] == expected
    assert captioner.predict_batch([[path] for path in pictures.values()]) == expected
    assert len(set(expected)) > 1


def test_the_middle_frame_stands_for_the_video(checkpoint: Path, pictures: dict[str, Path]) -> None:
    captioner = captioners.load(settings(checkpoint, 1), threads=2)
    frames = [pictures["title"], pictures["dog"], pictures["cup"]]
    assert captioner.predict_batch([frames]) == [captioner.predict(pictures["dog"])]


def test_pickled_weights_are_refused(
    checkpoint: Path, model: BlipForConditionalGeneration, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"caption.model_name \(blip\).*safetensors"):
        captioners.load(settings(folder, 1), threads=2)
