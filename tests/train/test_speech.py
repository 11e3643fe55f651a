"""Runs that fine-tune a speech model: error rates, what is kept of the sound, what stops them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spark_trainer.runs.spec import RunSpec
from spark_trainer.train import setup
from spark_trainer.train.loop import Trainer
from tests import sounds
from tests.families import tiny

from .conftest import fresh, metrics, train, write_run

Make = Callable[..., RunSpec]
EXACT = {"batch_size": 3, "max_steps": 3, "eval_steps": 3, "num_samples": 0, "freeze": ["encoder"]}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture
def spoken(make: Make, whisper: Path, tmp_path: Path) -> Make:
    """Make the spec of a short run over eight recordings."""
    path = sounds.write_manifest(tmp_path / "recordings", (f"{n:064x}" for n in range(8)))

    def spoken(name: str = "run", **settings: Any) -> RunSpec:
        given: dict[str, Any] = {
            "model_name": str(whisper),
            "model_type": "asr",
            "manifest_path": str(path),
            "asr": {"export": ["hf"], "no_speech": 0},
        }
        return make(name, **given | settings)

    return spoken


def test_error_rates_stand_beside_the_held_out_loss(spoken: Make) -> None:
    masks = {"mask_time_prob": 0.1, "mask_feature_prob": 0.1}
    asked: dict[str, Any] = {"export": ["hf"], "no_speech": 1, "spec_augment": masks}
    asked["forgetting"] = spoken().settings.manifest_path
    made = spoken(max_steps=2, eval_steps=2, num_samples=1, num_workers=1, asr=asked)
    lines = train(write_run(made))
    measured = [line for line in lines if "held_out_loss" in line]
    assert [line["step"] for line in measured] == [0, 2]
    assert measured[-1]["held_out_loss"] < measured[0]["held_out_loss"]
    for name in ("wer", "cer", "forgetting_wer", "forgetting_cer"):
        assert all(line[name] > 0 for line in measured), name
    [shown] = (made.folder.path / "samples").glob("step_00000002*.json")
    record = json.loads(shown.read_text())[0]
    assert record["reference"] == " ".join(sounds.TEXTS)


def test_what_the_encoder_makes_is_kept_to_the_last_bit(spoken: Make) -> None:
    """No step reads sound or calls the encoder."""
    torch.set_num_threads(1)  # as `encode` sets it: sums of two threads differ in the last digit
    each, ahead = spoken("each", encode="each_step", **EXACT), spoken("ahead", **EXACT)
    expected = train(write_run(each))
    assert ahead.settings.encoded_ahead
    folder = write_run(ahead)
    for path in ahead.data_root.rglob("*.wav"):
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fresh()
    try:
        start = setup.prepare(folder)
        start.loaded.model.get_encoder().register_forward_pre_hook(_refuse)
        Trainer.build(start).train()
    finally:
        fresh()
    assert metrics(folder) == expected
    weights = [load_file(one.folder.path / "final/model.safetensors") for one in (each, ahead)]
    assert all(weights[1][name].equal(value) for name, value in weights[0].items())


def _refuse(*_: Any) -> None:
    raise AssertionError("the encoder is called")


def test_references_of_videos_that_are_not_there_stop_a_run(spoken: Make, tmp_path: Path) -> None:
    (tmp_path / "said.csv").write_text("id,text\nnobody,hello\n")
    asked = {"export": ["hf"], "references": str(tmp_path / "said.csv")}
    folder = write_run(spoken(asr=asked))
    with pytest.raises(ValueError, match=r"asr\.references.*said\.csv:2: no video .* 'nobody'"):
        setup.prepare(folder)


@pytest.mark.parametrize("key", ["words", "forgetting"])
def test_files_that_are_not_there_stop_a_run(spoken: Make, tmp_path: Path, key: str) -> None:
    asked = {"export": ["hf"], key: str(tmp_path / "none")}
    with pytest.raises(ValueError, match=rf"train\.asr\.{key}: .*none"):
        setup.prepare(write_run(spoken(asr=asked)))


def test_other_references_are_another_run(spoken: Make, tmp_path: Path) -> None:
    path, ids = tmp_path / "said.csv", set()
    for text in ("hello", "hello again"):
        path.write_text(f"id,text\n{0:064x},{text}\n")
        made = spoken(asr={"export": ["hf"], "references": str(path)})
        ids.add((made.run_id, made.encode_fingerprint))
    assert len(ids) == len({run for run, _ in ids}) == len({one for _, one in ids}) == 2
