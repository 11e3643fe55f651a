"""The loop itself: accumulation, resume, skipped samples, and stops that say why."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.system import gpu
from spark_trainer.train import data, setup
from spark_trainer.train.loop import Trainer
from spark_trainer.train.setup import TrainingError
from tests.families import tiny

from .conftest import metrics, train, write_run
from .together import train_together

no_gpu = pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")


def test_loss_falls_and_everything_is_written(make: Any) -> None:
    from transformers import AutoProcessor, BlipForConditionalGeneration

    folder = write_run(make(max_steps=20, eval_steps=10))
    curve = train(folder)
    held_out = [line["held_out_loss"] for line in curve if "held_out_loss" in line]
    assert len(held_out) == 3
    assert held_out[-1] < held_out[0] - 1
    assert [line["step"] for line in curve if "loss" in line] == list(range(1, 21))
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "step_00000018",
        "step_00000020",
    ]
    assert list((folder / "tensorboard").glob("events*"))
    assert len(list((folder / "samples").iterdir())) == 3
    assert BlipForConditionalGeneration.from_pretrained(folder / "final")
    assert AutoProcessor.from_pretrained(folder / "final")
    assert "held-out loss" in (folder / "final" / "README.md").read_text()
    assert (folder / "trained.json").exists()


def test_accumulation_is_the_token_weighted_mean(make: Any) -> None:
    whole = train(write_run(make("whole", batch_size=8, max_steps=4)))
    parts = train(
        write_run(make("parts", batch_size=2, gradient_accumulation_steps=4, max_steps=4))
    )
    for one, other in zip(whole, parts, strict=True):
        assert one.keys() == other.keys()
        assert all(one[key] == pytest.approx(other[key], rel=2e-4, abs=1e-7) for key in one)


def test_a_missing_frame_is_counted_and_stops_past_the_limit(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(max_skipped=0.5)
    for frame in sorted(made.data_root.rglob("frame_000001.jpg"))[:4]:
        frame.unlink()
    folder = write_run(made)
    train(folder)
    assert '"skipped_samples":0' not in (folder / "trained.json").read_text()
    with pytest.raises(TrainingError, match=r"train\.max_skipped = 0 allows.*frame_000001\.jpg"):
        train(write_run(make("strict", max_skipped=0.0)))


def test_too_many_videos_without_an_answer_stop(make: Any) -> None:
    with pytest.raises(ValueError, match=r"train\.max_left_out: 9 of 9 .*'train'.*without nothing"):
        train(write_run(make(text={"answer": "{nothing}"})))


def test_an_empty_part_stops_with_the_key(make: Any) -> None:
    with pytest.raises(ValueError, match=r"train\.split.*'validation'"):
        train(write_run(make(split={"validation": 0.0001})))


def test_nothing_held_out_trains(make: Any) -> None:
    folder = write_run(make(split={"validation": 0.0}, max_steps=3))
    curve = train(folder)
    assert [line["step"] for line in curve] == [1, 2, 3]
    assert not any("held_out_loss" in line for line in curve)
    assert not (folder / "samples").exists()
    summary = json.loads((folder / "trained.json").read_text())
    assert (summary["first_loss"], summary["best_step"]) == (None, None)
    assert (summary["training_videos"], summary["validation_videos"]) == (12, 0)
    assert "held-out loss" not in (folder / "final" / "README.md").read_text()


def test_another_world_than_asked_for_stops(make: Any) -> None:
    with pytest.raises(TrainingError, match="asked for 2 processes on cpu, got 1 on cpu"):
        train(write_run(make(), processes=2))


def test_a_loss_that_is_no_number_stops(make: Any) -> None:
    folder = write_run(make(learning_rate=1e30, eval_steps=100, checkpoint_steps=1))
    with pytest.raises(TrainingError, match=r"the loss was no number for 3 steps up to \d"):
        train(folder)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_00000001"]
    assert metrics(folder)[-1]["loss"] is None


def test_held_out_samples_of_which_none_can_be_used_stop_at_once(make: Any, tmp_path: Path) -> None:
    checkpoint = tiny.qwen2_vl(tmp_path / "checkpoint")
    folder = write_run(make(model_name=str(checkpoint), max_length=16))
    with pytest.raises(TrainingError, match=r"^no held-out sample can be used: video .*16"):
        train(folder)


def test_weights_that_are_no_numbers_stop_at_once(make: Any) -> None:
    start = setup.prepare(write_run(make()))
    with torch.no_grad():
        next(start.loaded.model.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="the held-out loss is no number at step 0"):
        Trainer.build(start).train()


def held_out(curve: list[dict[str, float]]) -> dict[int, float]:
    return {int(line["step"]): line["held_out_loss"] for line in curve if "held_out_loss" in line}


def test_evaluations_rate_the_texts(make: Any) -> None:
    folder = write_run(make(num_samples=3))
    rows = [line for line in train(folder) if "held_out_loss" in line]
    assert all({"bleu", "rouge_l", "cider"} <= line.keys() for line in rows)
    samples = json.loads((folder / "samples" / "step_00000006.json").read_text())
    assert len({sample["video"] for sample in samples}) == 3


@pytest.mark.parametrize(("batch_size", "lost"), [(4, "2"), (1, "23")])
def test_held_out_samples_that_cannot_be_read_are_counted(
    make: Any, batch_size: int, lost: str
) -> None:
    """Each once, also where none of a batch can be read."""
    made = make(max_skipped=1.0, batch_size=batch_size)
    for frame in made.data_root.rglob(f"frame_00000[{lost}].jpg"):
        frame.unlink()
    rows = [line for line in train(write_run(made)) if "held_out_loss" in line]
    held = json.loads((made.folder.path / "trained.json").read_text())["validation_videos"]
    assert [line["held_out_skipped"] for line in rows] == [held * len(lost)] * 3


def test_early_stopping_keeps_and_saves_the_best(make: Any) -> None:
    """A rate that soon makes things worse: the loss falls, then rises."""
    settings = {"learning_rate": 0.02, "schedule": "constant", "max_steps": 200, "eval_steps": 2}
    settings |= {"early_stopping": 3, "final": "best", "keep_checkpoints": 1}
    folder = write_run(make(**settings))
    losses = held_out(train(folder))
    summary = json.loads((folder / "trained.json").read_text())
    best = min(losses, key=losses.__getitem__)
    assert summary["best_step"] == best
    assert summary["best_loss"] == losses[best]
    [there] = [x for x in metrics(folder) if x["step"] == best and "bleu" in x]
    assert summary["scores"] == {name: there[name] for name in ("bleu", "rouge_l", "cider")}
    [start] = [x for x in metrics(folder) if x["step"] == 0 and "bleu" in x]
    assert summary["first_scores"] == {name: start[name] for name in summary["scores"]}
    assert summary["steps"] == max(losses) == best + 3 * 2 < 200
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == [f"step_{best:08d}", f"step_{best + 6:08d}"]
    said = f"stopped early at update {best + 6} of 200: no lower held-out loss since update {best}"
    assert said in (folder / "train.log").read_text()
    best_weights = load_file(folder / "checkpoints" / f"step_{best:08d}" / "trainable.safetensors")
    saved = load_file(folder / "final" / "model.safetensors")
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    assert saved[name].equal(best_weights[name])
    curve = (folder / "metrics.jsonl").read_bytes()
    train(folder)
    assert (folder / "metrics.jsonl").read_bytes() == curve
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == kept
    assert json.loads((folder / "trained.json").read_text()) == summary


def test_the_rate_of_a_line_is_the_one_that_its_update_was_made_with(
    make: Any, checkpoint: Path
) -> None:
    settings = {"warmup_steps": 2, "schedule": "linear", "checkpoint_steps": 1}
    folder = write_run(make(**settings, keep_checkpoints=6))
    rates = [line["learning_rate"] for line in train(folder) if "loss" in line]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 7.5e-4, 5e-4, 2.5e-4])
    before = load_file(checkpoint / "model.safetensors")
    moved = [
        any(not held[name].equal(before[name]) for name in held.keys() & before.keys())
        for step in (1, 2)
        if (held := load_file(folder / f"checkpoints/step_{step:08d}/trainable.safetensors"))
    ]
    assert moved == [False, True]


def in_fp16(folder: Path, backoff: float) -> Trainer:
    """On a CPU, with the scaler of losses that a GPU has, whose first scale is too large."""
    trainer = Trainer.build(setup.prepare(folder))
    strategy, accelerator = trainer.updates.strategy, trainer.setup.accelerator
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=backoff)
    accelerator.scaler, accelerator.native_amp = scaler, True
    accelerator.state._mixed_precision = "fp16"
    strategy.optimizer = AcceleratedOptimizer(strategy.optimizer.optimizer, scaler=scaler)
    accelerator._optimizers = [strategy.optimizer]
    return trainer


def test_an_update_that_fp16_left_out_is_told(make: Any) -> None:
    folder = write_run(make(schedule="linear"))
    in_fp16(folder, backoff=2.0**-120).train()
    first, second, *others = [line for line in metrics(folder) if "loss" in line]
    assert (first["overflowed"], first["grad_norm"]) == (1, None)
    assert second["learning_rate"] == first["learning_rate"] > others[0]["learning_rate"]
    assert not any("overflowed" in line for line in (second, *others))
    assert "update 1 changed nothing" in (folder / "train.log").read_text()


def test_a_run_that_fp16_always_leaves_out_stops(make: Any) -> None:
    trainer = in_fp16(write_run(make(max_steps=100, checkpoint_steps=100)), backoff=0.99)
    with pytest.raises(TrainingError, match=r"for 40 updates up to 40, .*bf16 or no"):
        trainer.train()


def test_a_warm_up_that_never_ends_is_said(make: Any) -> None:
    folder = write_run(make(warmup_steps=50))
    lines = train(folder)
    assert max(line["learning_rate"] for line in lines if "loss" in line) < 1e-3
    said = "train.warmup_steps: 50 of 6 updates in all: the learning rate stays below 0.001"
    assert said in (folder / "train.log").read_text()


def test_the_average_is_evaluated_and_saved(make: Any) -> None:
    plain = train(write_run(make("plain")))
    folder = write_run(make("averaged", ema_decay=0.9))
    averaged = train(folder)
    steps = [[line for line in curve if "loss" in line] for curve in (plain, averaged)]
    assert steps[0] == steps[1]
    assert held_out(plain)[6] != held_out(averaged)[6]
    last = load_file(folder / "checkpoints" / "step_00000006" / "trainable.safetensors")
    saved = load_file(folder / "final" / "model.safetensors")
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    assert not saved[name].equal(last[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixed_precision": "fp16"}, r"train\.mixed_precision: fp16 needs a GPU"),
        ({"optimizer": "paged_adamw"}, r"train\.optimizer: paged_adamw needs a GPU"),
        ({"packing": True}, r"train\.packing: expected false"),
        (
            {"freeze": ["ears"]},
            r"train\.freeze: no part 'ears'; expected some of: vision, language",
        ),
        ({"finetune": "lora", "lora": {"targets": ["nose"]}}, r"train\.lora\.targets: .*nose"),
    ],
    ids=str,
)
@no_gpu
def test_what_this_machine_or_family_lacks_stops(
    make: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((TrainingError, ValueError), match=message):
        train(write_run(make(**settings)))


@pytest.mark.parametrize(
    ("card", "fast", "precision", "told"),
    [
        ("Tesla T4", False, "bf16", "Tesla T4 has no bf16; expected fp16 or no"),
        ("H100", True, "no", "no computes in float32; bf16 takes half the memory on H100"),
        ("H100", True, "bf16", None),
        ("Tesla T4", False, "no", None),
    ],
)
def test_the_precision_has_to_suit_the_gpu(
    card: str,
    fast: bool,
    precision: Any,
    told: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only what torch says of the card is made up: one of before 2020 emulates bf16."""
    supported = {True: True, False: fast}  # by whether emulating it will do
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: supported[including_emulation],
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: card)
    run = Run(mixed_precision=precision)
    try:
        setup._check_precision(run, "cuda")
        said = caplog.text
    except TrainingError as error:
        said = str(error)
    assert (told in said) if told else not said


def test_a_checkpoint_holds_only_what_learns(make: Any) -> None:
    settings = {"finetune": "lora", "lora": {"rank": 2}}
    folder = write_run(make(**settings))
    train(folder)
    held = load_file(folder / "checkpoints" / "step_00000006" / "trainable.safetensors")
    learning = [name for name in held if "lora_" in name]
    assert len(learning) >= 8
    weights = load_file(folder / "final" / "model.safetensors")
    assert sum(v.numel() for v in held.values()) < sum(v.numel() for v in weights.values()) / 10


@pytest.mark.parametrize("save", ["merged", "adapter"])
def test_adapters_learn_over_a_base_in_four_bits(make: Any, save: str) -> None:
    from transformers import AutoModelForImageTextToText

    settings = {"finetune": "qlora", "mixed_precision": "bf16", "optimizer": "adamw_8bit"}
    settings |= {"learning_rate": 0.01, "max_steps": 12, "eval_steps": 6, "save": save}
    folder = write_run(make(**settings))
    losses = held_out(train(folder))
    assert losses[12] < losses[0] - 0.1
    names = load_file(next((folder / "final").glob("*.safetensors"))).keys()
    assert any("lora_" in name for name in names) == (save == "adapter")
    assert not any("absmax" in name for name in names)
    assert AutoModelForImageTextToText.from_pretrained(folder / "final")


def test_bf16_and_gradient_checkpointing_stay_close(make: Any) -> None:
    exact = held_out(train(write_run(make("exact"))))
    settings = {"mixed_precision": "bf16", "gradient_checkpointing": True}
    close = held_out(train(write_run(make("close", **settings))))
    assert close[6] == pytest.approx(exact[6], rel=0.02)


def test_mfu_is_the_counted_flops_over_the_peak(make: Any) -> None:
    """By torch's own counter, over the same batches."""
    spec = make(peak_tflops=1e-3, max_steps=3)
    train(folder := write_run(spec))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    steps = [line for line in map(json.loads, lines) if "loss" in line]
    start = setup.prepare(write_run(make("other")))
    method, reader, counted = start.method, start.training, []
    sampler = data.sampler(reader.samples, start.run, start.accelerator, 0)
    for numbers in itertools.islice(sampler, 3):
        [batch] = reader[numbers].batches
        with FlopCounterMode(display=False) as counter:
            method.loss(start.loaded.model.train(), batch).backward()
        counted.append(counter.get_total_flops())
    took = [spec.settings.samples_per_update / line["samples_per_s"] for line in steps]
    needed = [line["mfu"] * 1e9 * seconds for line, seconds in zip(steps, took, strict=True)]
    assert needed[0] == pytest.approx(counted[0], rel=1e-4)
    assert needed == pytest.approx(counted, rel=0.05)  # a token of one counts for others like it


CPU = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.long
def test_two_processes_equal_one(make: Any, tmp_path: Path) -> None:
    """Also of a family that packs; without dropout, which each process draws for itself."""
    shared, alone = {}, {}
    for variant in ("blip", "blip2", "internvl", "llava", "qwen2_vl"):
        whole = getattr(tiny, variant)(tmp_path / f"{variant}-whole")
        checkpoint = tiny.dropping(whole, tmp_path / variant, 0.0)
        packs = families.find(str(checkpoint)).packs
        settings = {"model_name": str(checkpoint), "batch_size": 2, "global_batch_size": 4}
        settings |= {"packing": packs, "max_steps": 4, "eval_steps": 4}
        if variant == "qwen2_vl":
            # Rows of one or two samples, of which each process has its number.
            settings |= {"max_length": 128, "packing_length": 153}
        shared[variant] = make(f"{variant}-two", cpu_processes=2, **settings)
        alone[variant] = train(write_run(make(f"{variant}-one", **settings)))
    train_together(shared.values())
    for variant, made in shared.items():
        assert json.loads((made.folder.path / "trained.json").read_text())["processes"] == 2
        for one, two in zip(alone[variant], metrics(made.folder.path), strict=True):
            same = {"step", "loss", "held_out_loss", "learning_rate", "grad_norm"} & one.keys()
            assert {k: two[k] for k in same} == pytest.approx({k: one[k] for k in same}, rel=1e-3)


@pytest.mark.long
def test_a_run_goes_on_with_another_number_of_processes(make: Any) -> None:
    """The same samples in the same order: the curve stays where it was, up to rounding."""
    settings = {"batch_size": 2, "global_batch_size": 4, "max_steps": 8, "checkpoint_steps": 4}
    whole = train(write_run(make("whole", **settings)))
    made = make("moved", **settings)
    folder = write_run(made)
    half = made.settings.model_copy(update={"max_steps": 8})
    assert half == made.settings
    command = [sys.executable, "-m", "spark_trainer.train.process", str(folder)]
    process = subprocess.Popen(command, start_new_session=True, env=os.environ | CPU)
    while process.poll() is None and not (folder / "checkpoints/step_00000004").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    told = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(told | {"processes": 2}))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc_per_node", "2"]
    subprocess.run([*launcher, *command[1:]], check=True, env=os.environ | CPU)
    for one, other in zip(whole, metrics(folder), strict=True):
        same = {"step", "loss", "held_out_loss"} & one.keys()
        assert {k: other[k] for k in same} == pytest.approx({k: one[k] for k in same}, rel=1e-3)
