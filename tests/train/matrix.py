"""Short runs of every family and setting in this process, and what was seen of each.

`python -m tests.train.matrix STRATEGY FILE` makes those of one strategy, in a single
process, and writes what went wrong in each run: nothing, where all is well.
"""

import hashlib
import json
import os
import sys
import tempfile
import traceback
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepspeed.runtime import torch_autocast
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spark_trainer.config import Run, Split
from spark_trainer.config.optimization import Recomputed
from spark_trainer.data.dataset import split_of
from spark_trainer.data.layout import Layout
from spark_trainer.families.kinds.attention import VARLEN
from spark_trainer.families.kinds.chat import ChatModel
from spark_trainer.runs import configured
from spark_trainer.train import setup
from spark_trainer.train.loop import Trainer
from spark_trainer.train.setup import Setup
from spark_trainer.train.topology import STORE_VARIABLE, Topology
from tests import sounds
from tests.families import tiny, tiny_pipelines, varlen_on_cpu  # noqa: F401  # registers it

from .conftest import fresh, write_run

WRITES = ("blip", "blip2", "internvl", "llava", "qwen2_vl")
OTHERS = ("blip2_t5", "llava_next", "llava_onevision", "qwen2_5_vl", "qwen3_vl")  # of the same
DIFFUSION = ("svd", "animatediff", "wan_animate")
SPEECH = ("whisper",)
FAMILIES = (*WRITES, *DIFFUSION, *SPEECH)
STRATEGIES = ("ddp", "zero2", "zero3", "fsdp")
PLAIN = ("full", "no", False)
FPS = 8


class Cell:
    """One run of the matrix."""

    def __init__(
        self, family: str, finetune: str, precision: str, recomputed: Recomputed, strategy: str
    ) -> None:
        self.family, self.strategy = family, strategy
        self.settings = {
            "finetune": finetune,
            "mixed_precision": precision,
            "gradient_checkpointing": recomputed,
        }

    def __str__(self) -> str:
        again = "recomputed" if self.settings["gradient_checkpointing"] else "kept"
        first = f"{self.family}-{self.settings['finetune']}-{self.settings['mixed_precision']}"
        return f"{first}-{again}-{self.strategy}"


def cells(strategy: str, families: Iterable[str] = FAMILIES) -> list[Cell]:
    """Those of a strategy; four bits are for families that write, and of one process that is alone.

    Of families that hear, and shared out, each pair of settings meets in half of the runs: ZeRO-3
    and FSDP2 take one half, ZeRO-2 and runs alone the other. The plain run that is shared out is
    left to `strategies/test_strategies.py`, where one of each kind is in every strategy.
    """
    found = []
    for family in families:
        tunes = ["full", "lora", *(["qlora"] if strategy == "ddp" and family in WRITES else [])]
        for tune, precision, again in product(tunes, ("no", "bf16"), (False, True)):
            odd = (tune == "lora") ^ (precision == "bf16") ^ again
            half = odd == (strategy in ("zero2", "ddp"))
            plain = strategy != "ddp" and (tune, precision, again) == PLAIN
            if (strategy == "ddp" and family not in SPEECH) or (half and not plain):
                found.append(Cell(family, tune, precision, again, strategy))
    return found


class Store:
    """Tiny checkpoints and four videos in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = folder / "data" / "manifest_v1.jsonl"
        if not self.manifest.exists():
            lines = [self._video(one) for one in self._ids()]
            self.manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.made = 0

    def _ids(self) -> list[str]:
        """Three videos to train on and one held out."""
        parts: dict[str, list[str]] = {"train": [], "validation": []}
        for i in range(40):
            one = hashlib.sha256(str(i).encode()).hexdigest()
            parts[split_of(one, Split(validation=0.5))].append(one)
        return sorted(parts["train"][:3] + parts["validation"][:1])

    def _video(self, video: str) -> dict[str, Any]:
        noise = np.random.default_rng(int(video[:8], 16))
        for name in ("frames", "pose", "face"):
            place = self.folder / "data" / video / name
            place.mkdir(parents=True)
            for frame in range(1, 7):
                pixels = noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"frame_{frame:06d}.jpg")
        meta: dict[str, Any] = {"caption": "a dog", "frame_times": [i / FPS for i in range(6)]}
        meta |= {"duration": 6 / FPS, "fps": 24.0, "width": 32, "height": 32}
        meta |= {"pose_dir": f"{video}/pose", "face_dir": f"{video}/face"}
        spoken = sounds.entry(self.folder / "data", video)
        return spoken | {"frames_dir": f"{video}/frames", "meta": spoken["meta"] | meta}

    def checkpoint(self, family: str) -> Path:
        path = self.folder / family
        if not path.exists():
            getattr(tiny_pipelines if family in DIFFUSION else tiny, family)(path)
        return path

    def prepare(self, cell: Cell, device: str = "cpu", **more: Any) -> Setup:
        """What the trainer of a cell starts from, on a device."""
        made = configured.spec_on_manifest(f"run{self.made}", self._run(cell, more), self._layout())
        self.made += 1
        return setup.prepare(write_run(made, device=device))

    def _layout(self) -> Layout:
        return Layout(self.folder / "state")

    def _run(self, cell: Cell, more: dict[str, Any]) -> Run:
        settings: dict[str, Any] = {
            "model_name": str(self.checkpoint(cell.family)),
            "manifest_path": str(self.manifest),
            "output_dir": str(self.folder / "runs" / cell.strategy),
            "split": {"validation": 0.5},
            "lora": {"rank": 2},
            "batch_size": 1,
            "max_steps": 2,
            "eval_steps": 2,
            "num_samples": 1,
            "max_new_tokens": 3,
            "num_sampling_steps": 1,
            "num_workers": 0,
            "peak_tflops": 1e-3,
            "allow_cpu": True,
            "min_gpus": 0,
            **cell.settings,
            **more,
        }
        if cell.family in DIFFUSION:
            frames = 5 if cell.family == "wan_animate" else 3
            settings = {"model_type": "diffusion", "encode": "each_step"} | settings
            settings["clip"] = {"num_frames": frames, "fps": FPS, "sizes": [[32, 32]]}
        if cell.family in SPEECH:
            settings = {"model_type": "asr", "asr": {"export": ["hf"], "no_speech": 0}} | settings
        if cell.strategy == "fsdp":
            settings["fsdp"] = True
        elif cell.strategy != "ddp":
            path = self.folder / f"{cell.strategy}.json"
            stage = {"stage": int(cell.strategy[-1]), "stage3_param_persistence_threshold": 0}
            path.write_text(json.dumps({"zero_optimization": stage}))
            settings |= {"use_deepspeed": True, "deepspeed_config": str(path)}
        return Run(**settings)


class Watch:
    """What the modules of a network did: see `watched`."""

    def __init__(self) -> None:
        self.differentiated: set[str] = set()
        self.precisions: set[torch.dtype | None] = set()
        self._inside = False

    def enter(self, *_: Any) -> None:
        self._inside = True

    def leave(self, *_: Any) -> None:
        self._inside = False

    def look(self, name: str, module: torch.nn.Module, given: Any, made: Any) -> None:
        learns = any(p.requires_grad for p in module.parameters())
        if not learns and not _needs(given) and _needs(made):
            self.differentiated.add(name)
        if self._inside and name:  # of the network itself a caller may have ended it by then
            on = torch.is_autocast_enabled("cpu")
            self.precisions.add(torch.get_autocast_dtype("cpu") if on else None)


@contextmanager
def watched(model: torch.nn.Module) -> Iterator[Watch]:
    """Which modules are frozen, get nothing that needs a gradient and give what needs one, and the
    precisions of autocast that were found inside of the network's forward passes."""
    watch = Watch()

    def hook(name: str) -> Any:
        return lambda module, args, named, made: watch.look(name, module, (args, named), made)

    hooks = [
        model.register_forward_pre_hook(watch.enter),
        *(
            module.register_forward_hook(hook(name), with_kwargs=True)
            for name, module in model.named_modules()
        ),
        model.register_forward_hook(watch.leave),
    ]
    yield watch
    for one in hooks:
        one.remove()


class AsOnCuda:
    """torch as DeepSpeed's autocast finds it on a GPU: what it asks of CUDA is said of the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def is_autocast_enabled(self, device: str = "cpu") -> bool:
        return torch.is_autocast_enabled(device)


def _needs(values: Any) -> bool:
    return any(isinstance(one, torch.Tensor) and one.requires_grad for one in tree_leaves(values))


class Live(TorchDispatchMode):
    """Bytes of the tensors that are alive of those made inside it, and the most that ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor):
                self._add(one.untyped_storage())
        return made

    def _add(self, storage: Any) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, storage.nbytes())

    def restart(self) -> None:
        """Let the most be what is alive now."""
        self.peak = self.now

    def _drop(self, size: int) -> None:
        self.now -= size


def attend_as_on_gpu(start: Setup) -> None:
    """Let what packs attend by torch's kernel for a GPU, computed here by matrix products."""
    family = start.method.family
    if isinstance(family, ChatModel):
        start.loaded.model.set_attn_implementation(dict.fromkeys(family.tells_lengths, VARLEN))


def run(store: Store, cell: Cell) -> None:
    """Two updates, evaluated before and after, with a sample of a held-out video.

    Raises:
        AssertionError: something was not as it has to be.
    """
    start = store.prepare(cell)
    if cell.strategy != "ddp":
        attend_as_on_gpu(start)
    model, told = start.loaded.model, start.folder.path / "metrics.jsonl"
    with watched(model) as watch:
        Trainer.build(start).train()
    differentiated = sorted(watch.differentiated)
    assert not differentiated, f"differentiated though frozen: {differentiated[:3]}"
    precise = cell.settings["mixed_precision"] == "no"
    wanted = {None if precise else torch.bfloat16}
    assert watch.precisions == wanted, f"computed in {watch.precisions}"
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert all(line["mfu"] > 0 and line["grad_norm"] > 0 for line in steps), steps
    assert sum("held_out_loss" in line for line in lines) == 2
    assert sorted((start.folder.path / "samples").glob("step_00000002*"))


def main(strategy: str, file: Path, chosen: list[str]) -> None:
    """All cells of a strategy, in a process that is alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= Topology(1, 1, "cpu").environments()[0] | {STORE_VARIABLE: f"{folder}/store"}
        store, told = Store(Path(folder)), {}
        torch_autocast.torch = AsOnCuda()
        for cell in cells(strategy, chosen or FAMILIES):
            try:
                run(store, cell)
                told[str(cell)] = ""
            except Exception:
                told[str(cell)] = traceback.format_exc()
            fresh()
            file.write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
