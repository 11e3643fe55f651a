"""`python -m spark_trainer memory`, in this process."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from spark_trainer import cli
from tests.families import tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen2-VL's configuration; its weights are gone."""
    path = tiny.qwen2_vl(tmp_path_factory.mktemp("checkpoint"))
    for file in path.glob("*.safetensors"):
        file.unlink()
    return path


def call(folder: Path, *flags: str, **settings: Any) -> int:
    """The exit status of the command, of one run with these settings."""
    config = folder / "config.yaml"
    clip = {"num_frames": 2, "max_side_px": 64}
    run = {"clip": clip, "batch_size": 2, "mixed_precision": "bf16"} | settings
    whole = {"output_dir": str(folder / "data"), "train": {"runs": {"slow": run}}}
    config.write_text(yaml.safe_dump(whole))
    with pytest.raises(SystemExit) as ended:
        cli.main(["memory", "--config", str(config), *flags])
    return int(ended.value.code or 0)


def test_every_strategy_has_a_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "--run", "slow", "--gpus", "8", model_name=str(checkpoint)) == 0
    told = capsys.readouterr()
    assert "grey frames stand in for the samples" in told.err
    first, heads, *lines = told.out.splitlines()
    assert first == "slow: GiB on each of 8 GPUs, and of each machine (host)"
    assert heads.split()[0] == "weights"
    assert heads.split()[-2:] == ["peak", "host"]
    names = [line.rsplit(maxsplit=7)[0] for line in lines]
    files = [f"config/deepspeed_{name}.json" for name in ("zero2", "zero3_on_gpu", "zero3")]
    assert names == ["as configured", *files, "FSDP2"]


def test_gpus_that_can_not_share_an_update_evenly_are_not_used(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"model_name": str(checkpoint), "global_batch_size": 4}
    assert call(tmp_path, "--gpus", "3", **settings) == 0
    told = capsys.readouterr()
    assert "slow: 2 of 3 GPUs: 4 samples per update can't be shared evenly" in told.err
    assert told.out.startswith("slow: GiB on each of 2 GPUs")


def test_a_strategy_that_refuses_the_settings_has_none(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"finetune": "qlora", "gradient_checkpointing": "auto"}
    assert call(tmp_path, model_name=str(checkpoint), **settings) == 0
    told = capsys.readouterr()
    assert "slow: gradient_checkpointing: auto is chosen by the memory of the GPUs" in told.err
    _, _, *lines = told.out.splitlines()
    *choices, last = [line.rsplit(maxsplit=7)[0] for line in lines]
    ways = ("4", "2", "selective", "attention", "true")
    assert choices == [f"gradient_checkpointing: {how}" for how in ways]
    assert last == "as configured"


@pytest.mark.parametrize(
    ("flags", "model", "said"),
    [
        (("--run", "fast"), "nowhere", "no run 'fast'; expected one of: slow"),
        ((), "nowhere", "run slow: nowhere: "),
        ((), "/no/where", "run slow: /no/where: train.model_name: no such folder: /no/where"),
    ],
)
def test_what_is_wrong_is_the_users(
    flags: tuple[str, ...],
    model: str,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert call(tmp_path, *flags, model_name=model) == 1
    assert f"memory: {said}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b'{"model_type": "qwen', "config.json: the file is broken: no JSON: Unterminated string"),
        (b"\x00\xff\x80", "config.json: the file is broken: no JSON: "),
        (b"[1]", "config.json: the file is broken: expected dict, got list"),
        (
            b'{"model_type": "qwen2_vl", "text_config": {"hidden_size": -5}}',
            "train.model_name: its configuration makes no network: RuntimeError: ",
        ),
    ],
)
def test_a_damaged_checkpoint_is_named(
    config: bytes,
    said: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = shutil.copytree(checkpoint, tmp_path / "damaged")
    (model / "config.json").write_bytes(config)
    assert call(tmp_path, model_name=str(model)) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "status", "said"),
    [
        ([], 0, "nothing to learn from; grey frames stand in for the samples"),
        (
            [{"id": "0" * 64, "frames_dir": "gone", "meta": {"caption": "a", "frame_times": [0]}}],
            1,
            "none of the 1 samples with the longest texts can be used: video 000",
        ),
    ],
)
def test_samples_that_are_not_there_are_told(
    lines: list[dict[str, Any]],
    status: int,
    said: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {"model_name": str(checkpoint), "manifest_path": str(manifest)}
    assert call(tmp_path, **settings) == status
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("gpus", ["0", "-3", "2.5", "all"])
def test_gpus_are_counted_from_one(
    gpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "--gpus", gpus) == 1
    assert f"argument --gpus: invalid count value: '{gpus}'" in capsys.readouterr().err
