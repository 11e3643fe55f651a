"""DeepSpeed's file: what is refused before any work, and what DeepSpeed gets."""

import json
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import ConfigError, Run
from spark_trainer.train.strategies import deepspeed_config

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def run(path: Path, **settings: Any) -> Run:
    return Run(use_deepspeed=True, deepspeed_config=str(path), **settings)


@pytest.mark.parametrize(
    ("name", "stage", "offloads"), [("2", 2, False), ("3", 3, True), ("3_on_gpu", 3, False)]
)
def test_the_shipped_files_are_filled_from_the_run(name: str, stage: int, offloads: bool) -> None:
    made = run(
        ROOT / f"config/deepspeed_zero{name}.json",
        batch_size=3,
        gradient_accumulation_steps=5,
        max_grad_norm=0.5,
        mixed_precision="bf16",
    )
    filled = deepspeed_config.filled(deepspeed_config.read(made), made, processes=4)
    assert "auto" not in json.dumps(filled)
    assert filled["train_micro_batch_size_per_gpu"] == 3
    assert filled["train_batch_size"] == 12  # the loop itself accumulates
    assert filled["gradient_accumulation_steps"] == 1
    assert filled["gradient_clipping"] == 0.5
    assert (filled["bf16"]["enabled"], filled["fp16"]["enabled"]) == (True, False)
    assert filled["zero_optimization"]["stage"] == stage
    assert ("offload" in json.dumps(filled)) is offloads


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "expected a JSON object"),
        ({}, r"zero_optimization\.stage: expected 1, 2 or 3 \(got None\)"),
        ({"stage": 0}, r"zero_optimization\.stage: expected 1, 2 or 3 \(got 0\)"),
        ({"optimizer": {"type": "Adam"}}, "optimizer: expected none, the run decides it"),
        ({"scheduler": {}}, "scheduler: expected none"),
        ({"amp": {}}, "amp: expected none"),
        ({"gradient_clipping": 0.3}, r"gradient_clipping: expected auto or 1.0, .* \(got 0.3\)"),
        ({"train_batch_size": 7}, r"train_batch_size: expected auto or 8, .* \(got 7\)"),
        ({"bf16": {"enabled": True}}, r"bf16\.enabled: expected auto or false, .* \(got true\)"),
        ({"fp16": {"enabled": True}}, r"fp16\.enabled: expected auto or false"),
    ],
    ids=str,
)
def test_what_contradicts_the_run_is_named(values: Any, message: str, tmp_path: Path) -> None:
    if isinstance(values, dict) and values:
        stage = {"zero_optimization": {"stage": values.pop("stage", 2)}}
        values = stage | values
    path = tmp_path / "zero.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=rf"train\.runs\.x\.deepspeed_config: {path}: {message}"):
        deepspeed_config.read(run(path), "train.runs.x")


def test_a_file_that_is_not_there_or_no_json(tmp_path: Path) -> None:
    path = tmp_path / "zero.json"
    with pytest.raises(ConfigError, match=r"train\.deepspeed_config: no such file: .*zero\.json"):
        deepspeed_config.read(run(path))
    with pytest.raises(ConfigError, match=rf"train\.deepspeed_config: {tmp_path}: Is a directory"):
        deepspeed_config.read(run(tmp_path))
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"zero\.json: expected JSON"):
        deepspeed_config.read(run(path))


def test_only_what_decides_numbers_is_in_the_run_id(tmp_path: Path) -> None:
    plain, one, other = Run(), run(tmp_path / "a.json"), run(tmp_path / "b.json")
    assert one.results() == other.results() != plain.results()
