"""`--set` says what the file would say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from spark_trainer import config
from spark_trainer.cli import given
from spark_trainer.errors import UserError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("frame_rate: 1.0\naudio: {sample_rate: 16000}\ntrain: {batch_size: 2}\n")
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train.learning_rate=1e-4"], {"train": {"batch_size": 2, "learning_rate": 1e-4}}),
        (
            ["train.lora.targets=[q, v]"],
            {"train": {"batch_size": 2, "lora": {"targets": ["q", "v"]}}},
        ),
        (
            ["train.runs.slow.max_steps=3"],
            {"train": {"batch_size": 2, "runs": {"slow": {"max_steps": 3}}}},
        ),
        (["frame_rate=2"], {"frame_rate": None, "frames": {"frame_rate": 2}}),
        (["frames.frame_rate=2"], {"frame_rate": None, "frames": {"frame_rate": 2}}),
        (["output_dir=a=b", "output_dir=c=d"], {"output_dir": "c=d"}),
        (["caption.prompt="], {"caption": {"prompt": None}}),
        (["train=null"], {"train": None}),
    ],
)
def test_a_key_is_as_if_it_stood_in_the_file(
    file: Path, words: list[str], expected: dict[str, Any]
) -> None:
    merged = yaml.safe_load(file.read_text()) | expected
    assert given.over(file, words) == {
        key: value for key, value in merged.items() if (key, value) != ("frame_rate", None)
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.learning_rate=fast", "--set train.learning_rate: expected a number (got 'fast')"),
        (
            "train.lerning_rate=1",
            "--set train.lerning_rate: unknown key; did you mean learning_rate?",
        ),
        ("train.batch_size.x=1", "--set train.batch_size: expected a whole number"),
        ("train", "--set train: expected KEY=VALUE, such as train.learning_rate=1e-4"),
        ("train..x=1", "--set train..x=1: expected KEY=VALUE"),
        ("video_dir=[a", "--set video_dir: expected a value in YAML (got '[a')"),
    ],
)
def test_a_wrong_key_is_named(file: Path, word: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        given.over(file, [word])
    assert str(caught.value).startswith(message)


def test_a_mistake_of_the_file_is_told_as_that(file: Path) -> None:
    file.write_text("frame_rate: -1\n")
    with pytest.raises(config.ConfigError) as caught:
        given.over(file, ["output_dir=out"])
    assert str(caught.value).startswith(f"{file}:\nframe_rate: expected greater than 0")
    assert given.over(file, ["frame_rate=1"]) == {"frames": {"frame_rate": 1}}
