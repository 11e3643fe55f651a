"""Two real processes that share a model out leave what one that holds everything leaves."""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import transformers
from safetensors.torch import load_file

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data.layout import Layout
from spark_trainer.runs.spec import RunSpec
from spark_trainer.train import encode, launch, setup, strategies
from spark_trainer.train.loop import Trainer
from tests import sounds
from tests.families import tiny, tiny_pipelines
from tests.train.conftest import digest_again, metrics, train, write_run
from tests.train.test_diffusion import FPS, FRAMES, ids, write_video
from tests.train.together import train_together

SMALL = {"batch_size": 1, "global_batch_size": 4, "max_steps": 3, "eval_steps": 3}
SAME = {"step", "loss", "held_out_loss", "learning_rate", "grad_norm", "bleu"}
RELATIVE = 2e-4  # of losses and norms: sums in another order
ABSOLUTE = 5e-5  # of weights: an update is up to 1e-3, whatever the size of its gradient
# Biases of SVD that the norm behind them takes out again, but for what differs inside its groups:
# what is left of their gradient is rounding, and Adam makes an update of it all the same. Six of
# them were up to 1.05e-4 apart, of all other weights none more than 2.3e-5.
TAKEN_OUT = ("temporal_res_block.conv1.bias", "temporal_res_block.time_emb_proj.bias")
UPDATE = 1e-3
# Two samples make a row or two: of the third update one process has two rows, the other one.
UNEVEN = {"qwen2_vl": {"batch_size": 2, "max_length": 128, "packing_length": 153}}

# How a model is shared out -> settings, and DeepSpeed's file.
OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
SHARDED: dict[str, dict[str, Any]] = {
    "zero1": {"stage": 1},
    "zero2": {"stage": 2},
    "zero2_offload": {"stage": 2, **OFFLOAD},
    "zero3": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "zero3_offload": {
        "stage": 3,
        "stage3_param_persistence_threshold": 0,  # or what is small stays whole, and all is small
        "offload_param": {"device": "cpu"},
        **OFFLOAD,
    },
    "fsdp": {},
}

Make = Callable[..., RunSpec]


@pytest.fixture
def strategy(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Settings of a run that shares a model out between two processes."""

    def strategy(name: str) -> dict[str, Any]:
        if name == "fsdp":
            return {"fsdp": True, "cpu_processes": 2}
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"zero_optimization": SHARDED[name]}))
        return {"use_deepspeed": True, "deepspeed_config": str(path), "cpu_processes": 2}

    return strategy


@pytest.fixture
def films(make: Make, tmp_path: Path) -> Make:
    """As `make`, for a family that makes videos; those held out and sizes can't be dealt evenly."""

    def films(name: str, variant: str, **settings: Any) -> RunSpec:
        root = tmp_path / f"{variant}-data"
        path = root / "manifest_v1.jsonl"
        if not root.exists():
            known = ids(9, 3)
            shapes = [(32, 32) if i % 3 else (64, 32) for i in range(len(known))]
            shapes = shapes if variant == "animatediff" else [(32, 32)] * len(known)
            lines = [
                write_video(root, one, shape, 7) for one, shape in zip(known, shapes, strict=True)
            ]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        sizes = [[32, 32], [64, 32]] if variant == "animatediff" else [[32, 32]]
        given = {
            "model_type": "diffusion",
            "manifest_path": str(path),
            "split": {"validation": 0.5},
            "clip": {"num_frames": FRAMES[variant], "fps": FPS, "sizes": sizes},
            "num_sampling_steps": 1,
            "batch_size": 2,
            "gradient_checkpointing": True,  # of more than upstream recomputes
        }
        return make(name, **(given | settings))

    return films


@pytest.fixture
def of(make: Make, films: Make, tmp_path: Path) -> Make:
    """The spec of a run on a variant of a family."""

    def of(name: str, variant: str, **settings: Any) -> RunSpec:
        folder = tmp_path / variant
        if variant in FRAMES:
            if not folder.exists():
                getattr(tiny_pipelines, variant)(folder)
            return films(
                name, variant, model_name=str(folder), **(SMALL | {"batch_size": 2} | settings)
            )
        if not folder.exists():  # without dropout, which each process draws for itself
            tiny.dropping(getattr(tiny, variant)(tmp_path / f"{variant}-whole"), folder, 0.0)
        if variant == "whisper":
            path = sounds.write_manifest(tmp_path / "sounds", ids(6, 3))
            asr = {"export": ["hf"], "no_speech": 0}
            heard = {"model_type": "asr", "manifest_path": str(path), "asr": asr}
            settings = heard | {"split": {"validation": 0.5}, "num_samples": 0} | settings
        given = SMALL | {"packing": families.find(str(folder)).packs} | UNEVEN.get(variant, {})
        return make(name, model_name=str(folder), **(given | settings))

    return of


@pytest.mark.parametrize(
    ("asked", "name", "sharded"),
    [
        ({}, "DDP", False),
        ({"use_deepspeed": True, "deepspeed_config": "zero.json"}, "DeepSpeed", True),
        ({"fsdp": True}, "FSDP2", True),
    ],
    ids=["ddp", "deepspeed", "fsdp"],
)
def test_a_run_gets_the_strategy_that_it_asks_for(
    asked: dict[str, Any], name: str, sharded: bool
) -> None:
    found = strategies.of(Run(**asked))
    assert (found.NAME, found.lockstep) == (name, sharded)


def fit(made: RunSpec) -> list[dict[str, float]]:
    data = Path(made.settings.manifest_path or "")
    if made.settings.encoded_ahead:
        encode.run(made, data, granted_gpus=0, threads=1)
    launch.fit(made, data, granted_gpus=0, threads=2)
    return metrics(made.folder.path)


def close(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    for a, b in zip(one, other, strict=True):
        same = SAME & a.keys()
        assert {k: b[k] for k in same} == pytest.approx({k: a[k] for k in same}, rel=RELATIVE)


def weights(made: RunSpec) -> dict[str, Any]:
    """What `final/` holds."""
    [path] = (made.folder.path / "final").rglob("*.safetensors")
    return load_file(path)


def held_out(made: RunSpec) -> list[float]:
    """The held-out losses of a run."""
    return [line["held_out_loss"] for line in metrics(made.folder.path) if "held_out_loss" in line]


def held(made: RunSpec) -> list[int]:
    """Bytes of the optimizer's state in each process."""
    summary = json.loads((made.folder.path / "trained.json").read_text())
    numbers: list[int] = summary["optimizer_bytes"]
    return numbers


# One of each kind is shared out in every strategy, the others in the one that cuts up the most.
KINDS = ("blip", "qwen2_vl", "animatediff", "wan_animate", "whisper")
EQUAL = {
    "zero2": (*KINDS, "svd"),
    "zero3_offload": (*KINDS, "blip2", "internvl", "llava", "svd"),
    "fsdp": KINDS,
}
# What else a run may ask for, beside being shared out.
ADAPTERS = {"finetune": "lora", "lora": {"rank": 2}, "mixed_precision": "bf16"}
ADAPTERS |= {"gradient_checkpointing": True, "learning_rate": 0.01}
LONGER = {"max_steps": 12, "eval_steps": 6, "checkpoint_steps": 2}
ADAPTED = ("zero1", "zero2_offload", "zero3", "fsdp")
# Strategies of the runs that two processes train, one after the other.
LAUNCHES = (("zero1", "zero2", "zero2_offload"), ("zero3", "zero3_offload"), ("fsdp",))


def alone(made: RunSpec) -> RunSpec:
    """Train a run in this process."""
    train(write_run(made))
    return made


@pytest.mark.long
@pytest.mark.parametrize("names", LAUNCHES, ids="-".join)
def test_two_that_share_equal_one(
    names: tuple[str, ...], of: Make, strategy: Any, tmp_path: Path
) -> None:
    """Where all weights learn, and where adapters do; killed, they go on bit by bit."""
    whole = {
        (name, variant): of(f"{variant}-{name}", variant, **strategy(name))
        for name in names
        for variant in EQUAL.get(name, ())
    }
    adapted = {
        name: of(f"adapters-{name}", "qwen2_vl", **adapters(name), **strategy(name))
        for name in names
        if name in ADAPTED
    }
    [most] = {*names} & EQUAL.keys()
    calm, killed = (of(run, "blip", **LONGER, **strategy(most)) for run in ("calm", "killed"))
    train_together([*whole.values(), *adapted.values(), calm])
    ones = {variant: alone(of(variant, variant)) for variant in {key[1]: None for key in whole}}
    for (name, variant), made in whole.items():
        check_all_learnt(name, variant, ones[variant], made)
    for name, made in adapted.items():
        check_adapters(alone(of(f"one-{name}", "qwen2_vl", **adapters(name))), made)
    kill(killed, killed.write(Layout(tmp_path / "state")))
    check_same(calm, killed)


def check_all_learnt(name: str, variant: str, one: RunSpec, made: RunSpec) -> None:
    """Show that all weights went where those of one process went, each process with its share."""
    close(metrics(one.folder.path), metrics(made.folder.path))
    ours, exact, [whole] = weights(made), weights(one), held(one)
    assert ours.keys() == exact.keys()
    each = {key: (ours[key] - exact[key]).abs().max().item() for key in exact}
    shares, apart = held(made), max(each.values())
    print(variant, name, "weights apart", apart, "bytes", shares, "of", whole)  # for docs
    assert apart < UPDATE
    assert max(far for key, far in each.items() if not key.endswith(TAKEN_OUT)) < ABSOLUTE
    assert len(shares) == 2
    assert max(shares) < 0.55 * whole
    assert sum(shares) == pytest.approx(whole, rel=0.02)


def adapters(name: str) -> dict[str, Any]:
    """Settings of adapters in bf16, recomputed, of which the best are kept."""
    again = "selective" if name == "fsdp" else True
    return ADAPTERS | {"gradient_checkpointing": again, "final": "best"}


def check_adapters(one: RunSpec, made: RunSpec) -> None:
    assert held_out(made) == pytest.approx(held_out(one), rel=0.02)
    assert transformers.AutoModelForImageTextToText.from_pretrained(made.folder.path / "final")
    assert weights(made).keys() == weights(one).keys()


def kill(made: RunSpec, spec: Path) -> None:
    """Start the command of a run, and kill all its processes after a checkpoint."""
    command = [sys.executable, "-m", "spark_trainer", "fit", "--spec", str(spec), "--gpus", "0"]
    command += ["--threads", "2", "--data", str(made.settings.manifest_path)]
    process = psutil.Popen(command)
    while process.poll() is None and not made.folder.checkpoint(4).exists():
        time.sleep(0.01)
    for one in [*process.children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):  # some end with those killed before them
            one.kill()
    process.wait()
    assert not (made.folder.path / "trained.json").exists()


def check_same(calm: RunSpec, killed: RunSpec) -> None:
    """Show that a run goes on to what one left that nobody killed."""
    assert fit(killed) == metrics(calm.folder.path)
    assert "resumed at update" in (killed.folder.path / "train.log").read_text()
    ours, theirs = weights(killed), weights(calm)
    assert all(ours[key].equal(value) for key, value in theirs.items())


@pytest.mark.long
def test_a_single_process_leaves_the_base_to_the_cpu(of: Make, strategy: Any) -> None:
    """How a network goes on one GPU that can't hold it: a frozen base, fetched layer by layer."""
    one = alone(of("one", "wan_animate", **ADAPTERS))
    shared = strategy("zero3_offload") | {"cpu_processes": 1}
    made = of("alone", "wan_animate", **ADAPTERS, **shared)
    fit(made)
    assert held_out(made) == pytest.approx(held_out(one), rel=0.02)
    assert held_out(made)[-1] < held_out(made)[0]
    assert weights(made).keys() == weights(one).keys()
    saved = made.folder.path / "checkpoints/step_00000003/step.json"
    assert "ZeRO-3 on 1 processes" in saved.read_text()


@pytest.mark.long
def test_a_run_that_does_not_get_deepspeed_stops(
    of: Make, strategy: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Accelerate drops it without a word where it is told to use the CPU."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(launch.LaunchError, match="asked for DeepSpeed, got MULTI_CPU"):
        fit(of("dropped", "blip", **strategy("zero2")))
    assert "Traceback" not in capfd.readouterr().err


def test_a_checkpoint_that_is_shared_out_otherwise_is_refused(of: Make) -> None:
    folder = write_run(of("run", "blip"))
    Trainer.build(setup.prepare(folder)).train()
    path = folder / "checkpoints" / "step_00000003" / "step.json"
    saved = json.loads(path.read_text())
    assert saved["shares"] == "whole"
    path.write_text(json.dumps(saved | {"shares": "ZeRO-2 on 8 processes"}))
    digest_again(path.parent)
    with pytest.raises(ValueError, match="written by ZeRO-2 on 8 processes, this run is whole"):
        Trainer.build(setup.prepare(folder)).train()
