"""Memory of an update as it is computed before a run, against what the update really takes.

uv run python benchmarks/memory.py

A Qwen2-VL as wide as the 2B checkpoint, with its vocabulary and two layers, on a CPU. In the
second update its tensors are added up, and the system is asked how much the process held at most,
without what it still holds when the run is gone.
"""

import ctypes
import gc
import multiprocessing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import measure
import torch
import train_setup
from measure import Measured, Options, Target
from train_setup import SMALL, Shape

from spark_trainer.train import data, setup
from spark_trainer.train.living import Living, weights
from spark_trainer.train.loop import Trainer
from spark_trainer.train.memory_pass import Data
from spark_trainer.train.memory_plan import GIB, Planner
from spark_trainer.train.topology import Topology

NEAR = 0.05
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
WIDE = Shape(1536, 8960, 2, 12, 2, 151936, True, 2, 1280, 16)
RUNS: dict[str, dict[str, Any]] = {
    "full, float32": {"finetune": "full"},
    "full, towers too, bf16, recomputed": {
        "finetune": "full",
        "freeze": [],
        "mixed_precision": "bf16",
        "gradient_checkpointing": True,
    },
    "LoRA, bf16, packed": {"finetune": "lora", "mixed_precision": "bf16", "packing": True},
}
COMMON = {"split": {"validation": 0.0}, "clip": {"num_frames": 8}, "batch_size": 2, "max_steps": 9}
# What is looked at -> what the plan calls it.
KINDS = {
    **{kind: kind for kind in ("weights", "gradients", "optimizer")},
    "tensors": "peak",
    "process": "peak",
}


def updated(folder: Path) -> dict[str, float]:
    """Make two updates of a run; returns bytes that the second took, by kind, and the computed."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, 1 << 16)  # what is freed goes back at once
    found = _updated(folder)
    gc.collect()
    libc.malloc_trim(0)
    found["process"] -= _held("VmRSS")  # that libraries hold, now that the run is gone
    return found


def _updated(folder: Path) -> dict[str, float]:
    trainer = Trainer.build(setup.prepare(folder))
    start, strategy = trainer.setup, trainer.updates.strategy
    sampler = data.sampler(start.training.samples, trainer.run, start.accelerator, 0)
    reading = data.training(start.training, sampler, 0, False)
    trainer.updates.make(1, reading, sampler.num_batches)  # makes the optimizer's state
    network = [*weights(start.loaded.model)]
    states = strategy.optimizer_state().values()
    kept = [v for state in states for v in state.values() if isinstance(v, torch.Tensor)]
    found: dict[str, float] = {"weights": _size(network), "optimizer": _size(kept)}

    def count(*_: Any) -> None:
        found["gradients"] = _size(w.grad for w in trainer.updates.weights if w.grad is not None)

    optimizer: Any = strategy.optimizer  # as Accelerate wraps it
    optimizer.optimizer.register_step_pre_hook(count)
    alive, read = Living([*network, *kept]), next(reading)
    for value in read.batches[0].tensors.values():
        if isinstance(value, torch.Tensor):
            alive.meet(value)
    Path("/proc/self/clear_refs").write_text("5")  # the most that was held is what is held now
    with alive:
        trainer.updates.make(2, iter([read]), 1)
    return found | {"tensors": alive.most, "process": _held("VmHWM")} | computed(trainer)


def computed(trainer: Trainer) -> dict[str, float]:
    """Return what `spark_trainer memory` says of a run, in bytes."""
    manifest = trainer.setup.folder.manifest
    root = trainer.setup.launched.data_root
    plan = Planner(Topology(1, 1, "cpu"), Data(manifest, root)).plan(trainer.run)
    return {f"computed {name}": getattr(plan, kind) for name, kind in KINDS.items()}


def _held(key: str) -> int:
    """Return bytes of this process, as Linux counts its pages."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _size(tensors: Iterable[torch.Tensor]) -> int:
    return Living(tensors).now


def measured(base: Path, options: Options) -> Measured:
    """Compare every run, each in a process of its own."""
    shape, side = (SMALL, 56) if options.smoke else (WIDE, 224)
    model = train_setup.checkpoint(base / "model", shape, side)
    texts = train_setup.answers(4, 60, 60)  # all batches are the largest
    clips = train_setup.manifest(base / "clips", texts, COMMON["clip"]["num_frames"], (640, 360))
    paths = {"model_name": str(model), "manifest_path": str(clips)}
    rows, targets = {}, []
    print(f"{'GiB, real / computed':<38}" + "".join(f"{name:>16}" for name in KINDS))
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for name in options.runs:
            folder = train_setup.run_folder(name, base, **COMMON | paths | RUNS[name])
            found = {key: v / GIB for key, v in pool.apply(updated, (folder,)).items()}
            rows[name] = found
            cells = (f"{found[one]:.3f} / {found[f'computed {one}']:.3f}" for one in KINDS)
            print(f"{name:<38}" + "".join(f"{cell:>16}" for cell in cells), flush=True)
            targets += [Target(f"{name}: {one}", _off(found, one), NEAR) for one in KINDS]
    return {"gib": rows}, targets


def _off(found: dict[str, float], kind: str) -> float:
    """Return how far the computed figure is from the real one, as a share of that."""
    return abs(found[f"computed {kind}"] / found[kind] - 1)


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        runs=(list(RUNS), list(RUNS)[2:3], "of the table"),
    )
