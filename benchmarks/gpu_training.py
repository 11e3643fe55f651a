"""Updates of the trainer, as a user's run makes them, at the size of published checkpoints."""

import itertools
import math
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gpu_kernels
import gpu_models
import torch
import train_setup

from spark_trainer.train import data, flops, processes, setup
from spark_trainer.train.loop import Trainer
from spark_trainer.train.topology import STORE_VARIABLE, Topology

GIB = 2**30
REPOSITORY = Path(__file__).resolve().parent.parent
SYNC = "called a synchronizing CUDA operation"  # torch's warning
MAKES = Callable[[Path, bool], Path]
T = TypeVar("T")
Made = tuple[float, dict[str, float]]  # an update's seconds, and what the trainer says of it


@dataclass(frozen=True)
class Training:
    """A run, and the clips that it learns from.

    Attributes:
        model: (folder, dry) -> the folder, with a checkpoint in it that has no weights.
        settings: of the run.
        size: width and height of the clips' frames on the disk.
        words: fewest and most of an answer.
        beside: what lies beside the frames of a clip.
        clips: how many there are.
        dry: settings on a CPU instead, with tiny sizes.
    """

    model: MAKES
    settings: dict[str, Any]
    size: tuple[int, int] = (640, 360)
    words: tuple[int, int] = (50, 400)
    beside: tuple[str, ...] = ()
    clips: int = 64
    dry: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effort:
    """How many updates: some before anything counts, then until both limits are met."""

    warm: int
    least: int
    seconds: float
    most: int


FULL, DRY = Effort(3, 3, 8.0, 20), Effort(1, 1, 0.0, 1)
SLOW = Effort(1, 2, 0.0, 2)  # where an update takes ten seconds

COMMON = {
    "split": {"validation": 0.0},
    "mixed_precision": "bf16",
    "gradient_checkpointing": True,
    "max_steps": 1000,
    "num_workers": 8,
}
LORA = {"finetune": "lora", "save": "adapter"}
IMAGE = {"clip": {"num_frames": 1}, "batch_size": 16, "packing": True, "max_length": 4096}
VIDEO = {"clip": {"num_frames": 16}, "batch_size": 4, "packing": True, "max_length": 4096}
FAST = {"gradient_checkpointing": False, "compile": "layers"}  # 80 GB have room for it
SMALL_VIDEO = {"clip": {"num_frames": 4}, "batch_size": 2}
ZERO3 = {"use_deepspeed": True, "deepspeed_config": "config/deepspeed_zero3_on_gpu.json"}


def _vision_language(size: str, settings: dict[str, Any]) -> Training:
    dry = SMALL_VIDEO if settings["clip"]["num_frames"] > 1 else {"batch_size": 2}
    dry |= {"compile": False}  # a CPU attends by a call for each sample, which refuses `layers`
    return Training(partial(gpu_models.qwen2_vl, size=size), settings, dry=dry)


def _diffusion(
    model: MAKES, frames: int, sides: tuple[int, int], settings: dict[str, Any], **more: Any
) -> Training:
    def clip(count: int, size: tuple[int, int]) -> dict[str, Any]:
        return {"clip": {"num_frames": count, "stride": 1, "sizes": [size]}}

    tiny = 5 if more.get("beside") else 3
    settings = {"model_type": "diffusion", **clip(frames, sides), **settings}
    dry = clip(tiny, (32, 32)) | {"batch_size": 1}
    return Training(model, settings, sides, words=(5, 20), dry=dry, **more)


TRAININGS = {
    "qwen2-vl-2b, LoRA, image": _vision_language("2B", LORA | IMAGE),
    "qwen2-vl-2b, LoRA, video": _vision_language("2B", LORA | VIDEO),
    "qwen2-vl-7b, LoRA, image": _vision_language("7B", LORA | IMAGE | FAST),
    "qwen2-vl-7b, LoRA, video": _vision_language("7B", LORA | VIDEO | FAST),
    "qwen2-vl-2b, full, ZeRO-3": _vision_language("2B", ZERO3 | VIDEO),
    "qwen2-vl-2b, full, FSDP2": _vision_language("2B", {"fsdp": True} | VIDEO),
    "svd, temporal layers": _diffusion(
        gpu_models.svd, 14, (1024, 576), {"batch_size": 1, "ema_decay": 0.999}, clips=8
    ),
    "animatediff, motion modules": _diffusion(
        gpu_models.animatediff, 16, (256, 256), {"batch_size": 4}, clips=16
    ),
    "wan-animate-14b, LoRA": _diffusion(
        gpu_models.wan_animate,
        77,
        (832, 480),
        LORA | {"batch_size": 1, "lora": {"rank": 32, "alpha": 32}},
        beside=("pose", "face"),
        clips=2,
    ),
}
TRL = "qwen2-vl-7b, LoRA, image"  # what TRL learns beside ours


def settings(name: str, base: Path, dry: bool) -> dict[str, Any]:
    """Write a run's model and clips; returns the settings of the run.

    Args:
        name: one of TRAININGS.
        base: a folder that is empty.
        dry: with tiny sizes, for a CPU.
    """
    training = TRAININGS[name]
    # No data sheet knows a CPU; any peak lets the FLOPs be counted.
    tiny = {"num_workers": 1, "peak_tflops": 1e-3} | training.dry if dry else {}
    chosen = COMMON | training.settings | tiny
    frames = chosen["clip"]["num_frames"]
    texts = train_setup.answers(*((4, 2, 9) if dry else (training.clips, *training.words)))
    size = (64, 36) if dry else training.size
    manifest = train_setup.manifest(base / "clips", texts, frames, size, training.beside)
    model = training.model(base / "model", dry)
    return chosen | {"model_name": str(model), "manifest_path": str(manifest)}


def run_folder(name: str, base: Path, device: str, **others: Any) -> Path:
    """Write a run's model, clips and folder; frozen encoders see the clips, where they come first.

    Args:
        name: one of TRAININGS.
        base: a folder that is empty.
        device: `cuda`, or `cpu` with tiny sizes.
        others: settings in the place of the training's.
    """
    chosen = settings(name, base, device == "cpu") | others
    os.chdir(REPOSITORY)  # the settings name DeepSpeed's file from there
    with gpu_models.random_weights(device):
        return train_setup.run_folder("run", base, device, **chosen)


def measured(name: str, base: Path, device: str) -> dict[str, Any]:
    """Make updates of a run; returns what they took."""
    began = time.perf_counter()
    folder = run_folder(name, base, device)
    written_s = time.perf_counter() - began
    training = TRAININGS[name]
    if training.settings.get("fsdp") or training.settings.get("use_deepspeed"):
        store = tempfile.mkdtemp(dir=base)
        os.environ |= Topology(1, 1, device).environments()[0]
        os.environ[STORE_VARIABLE] = f"{store}/store"
    with gpu_models.random_weights(device):
        trainer = Trainer.build(setup.prepare(folder))
    effort = DRY if device == "cpu" else SLOW if training.beside else FULL
    return updates(trainer, effort) | {"written_s": written_s}


def updates(trainer: Trainer, effort: Effort) -> dict[str, Any]:
    """Make updates as the loop does, between whose ends the clock is read.

    The last two are watched, for what waits for the GPU and for what the GPU does, and count for
    that alone. In the first FLOPs are counted, of layers that are not compiled.
    """
    run, reader, accelerator = trainer.run, trainer.setup.training, trainer.setup.accelerator
    on_gpu = accelerator.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()  # making weights takes more than loading them
    sampler = data.sampler(reader.samples, run, accelerator, 0)
    with data.training(reader, sampler, run.num_workers, on_gpu) as reading:
        numbers = itertools.count(1)

        def make() -> Made:
            began = time.perf_counter()
            values, _ = trainer.updates.make(next(numbers), reading, sampler.num_batches)
            return time.perf_counter() - began, values

        losses = [make()[1]["loss"]]
        first = peak_gib()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        losses += [make()[1]["loss"] for _ in range(effort.warm - 1)]
        meter = trainer.updates.meter
        found = list(_enough(partial(_compiled, make, meter), effort))
        later = peak_gib()
        with waits(on_gpu) as waited:
            make()
        watched = partial(gpu_kernels.watched, make)
        ran = _compiled(watched, meter) if on_gpu else {}
    losses += [values["loss"] for _, values in found]
    assert all(map(math.isfinite, losses)), losses
    peaks = {name: max(value, later[name]) for name, value in first.items()}
    peaks |= {f"later_{name}": value for name, value in later.items()}
    return _figures(trainer, found) | peaks | ran | {"waits": len(waited), "waits_at": waited}


def _enough(make: Callable[[], Made], effort: Effort) -> Iterator[Made]:
    spent = 0.0
    for number in range(effort.most):
        if number >= effort.least and spent >= effort.seconds:
            return
        seconds, values = make()
        spent += seconds
        yield seconds, values


def _compiled(make: Callable[[], T], meter: flops.Meter) -> T:
    """Make updates until one counts no FLOPs, for which no layer is compiled; returns its figures.

    It ends: of batches of tokens at most `flops.MOST_SHAPES` are counted, of clips each shape once.
    """
    while True:
        before, made = meter.shapes, make()
        if meter.shapes == before:
            return made


def _figures(trainer: Trainer, found: list[Made]) -> dict[str, float]:
    seconds = [took for took, _ in found]
    lines = [values for _, values in found]
    samples, peak = trainer.run.samples_per_update, trainer.updates.peak_tflops or math.nan
    within = [samples / line["samples_per_s"] for line in lines]  # of which the rates are
    pairs = list(zip(lines, within, strict=True))
    tokens = sum(line.get("tokens_per_s", 0.0) * took for line, took in pairs)
    needed = [line.get("mfu", math.nan) * took * peak for line, took in pairs]
    return {
        "updates": len(found),
        "step_s": statistics.median(seconds),
        "step_s_slowest": max(seconds),
        "samples": samples,
        "tokens_per_s": tokens / sum(seconds),
        "mfu": sum(needed) / sum(within) / peak,
        "needed_tflop": statistics.median(needed),
        "data_wait_share": statistics.mean(line["data_wait_share"] for line in lines),
    }


def peak_gib() -> dict[str, float]:
    """Return the most memory of this process so far: the GPU's, where there is one."""
    if torch.cuda.is_available():
        taken, held = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {"peak_gib": taken / GIB, "reserved_gib": held / GIB}
    return {"process_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB}


@contextmanager
def waits(on_gpu: bool) -> Iterator[list[str]]:
    """Collect where the host waited for the GPU; nothing where there is none."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if on_gpu:
                torch.cuda.set_sync_debug_mode("default")
    waits = [one for one in caught if SYNC in str(one.message)]
    found += ["/".join(Path(one.filename).parts[-2:]) + f":{one.lineno}" for one in waits]


def as_launched() -> None:
    """Set what the launcher sets for a training process."""
    os.environ |= processes._allocator()
