"""What a training step of the diffusion examples takes of a GPU's memory, computed without one.

uv run python benchmarks/diffusion_memory.py

Each file of config/examples that makes videos: upstream's network at the size of the published
checkpoint goes through the family's own loss and back, over tensors that have shapes but no content
(torch's FakeTensorMode). What lives at the worst moment is added up, tensor by tensor: exact but
for what attention and convolutions of a GPU borrow for themselves, for rounding by its allocator,
and for the half GiB of CUDA itself. Upstream's own gradient checkpointing is beside ours, and what
each computes.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import measure
import torch
import yaml
from measure import REPOSITORY, Measured, Options, Target
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.families.kinds import loading
from spark_trainer.families.kinds.batch import Batch
from spark_trainer.families.kinds.loading import Loaded
from spark_trainer.train.living import Living

MAX_GIB = 74  # of the 79.2 that an 80 GB card has for all
GIB = 2**30
LEARNING_BYTES = 12  # of each weight that learns: its gradient and Adam's two averages


@dataclass(frozen=True)
class Model:
    """A published checkpoint's network, and what the family's loss takes of the pipeline.

    `batch` is (run, width, height) -> the tensors of a batch, as `collate` makes them.
    """

    network: Callable[[], Any]
    pipeline: Callable[[], Any]
    batch: Callable[[Run, int, int], dict[str, torch.Tensor]]


def svd(run: Run, width: int, height: int) -> dict[str, torch.Tensor]:
    """Frames, and the first of them."""
    batch, frames = run.batch_size, run.clip.lengths[0]
    return {
        "latents": torch.empty(batch, frames, 4, height // 8, width // 8),
        "first": torch.empty(batch, 3, height, width, dtype=torch.uint8),
        "image": torch.empty(batch, 1024),
        "fps": torch.empty(batch),
        "motion": torch.empty(batch),
    }


def animatediff(run: Run, width: int, height: int) -> dict[str, torch.Tensor]:
    """Frames and a text."""
    batch, frames = run.batch_size, run.clip.lengths[0]
    text = torch.empty(batch, 77, 768)
    latents = torch.empty(batch, 4, frames, height // 8, width // 8)
    return {"latents": latents, "text": text, "empty": text}


def wan_animate(run: Run, width: int, height: int) -> dict[str, torch.Tensor]:
    """Frames behind a reference, what is given of them, skeletons, faces and a text."""
    batch, frames = run.batch_size, run.clip.lengths[0]
    size, num_latents = (height // 8, width // 8), (frames - 1) // 4 + 1
    text = torch.empty(batch, 512, 4096)
    return {
        "latents": torch.empty(batch, 16, num_latents, *size),
        "reference": torch.empty(batch, 20, 1, *size),
        "given": torch.empty(batch, 20, num_latents, *size),
        "pose": torch.empty(batch, 16, num_latents, *size),
        "face": torch.empty(batch, 3, frames, 512, 512, dtype=torch.uint8),
        "image": torch.empty(batch, 257, 1280),
        "text": text,
        "empty": text,
    }


class Vae(diffusers.AutoencoderKLTemporalDecoder):
    """Stable Video Diffusion's, which stays where it is: torch moves no tensors without content."""

    def __init__(self) -> None:
        super().__init__(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
        )
        self.requires_grad_(False)

    def to(self, *place: Any) -> "Vae":
        """Itself."""
        return self


MODELS = {
    "svd": Model(
        diffusers.UNetSpatioTemporalConditionModel,
        lambda: SimpleNamespace(vae=Vae()),
        svd,
    ),
    "animatediff": Model(
        lambda: diffusers.UNetMotionModel(cross_attention_dim=768),
        lambda: SimpleNamespace(scheduler=diffusers.DDIMScheduler()),
        animatediff,
    ),
    "wan_animate": Model(
        lambda: diffusers.WanAnimateTransformer3DModel(image_dim=1280, added_kv_proj_dim=5120),
        lambda: SimpleNamespace(
            scheduler=diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=5.0)
        ),
        wan_animate,
    ),
}
ROWS = {
    "svd": ("svd", {}),
    "svd, all weights": ("svd", {"freeze": []}),
    "animatediff": ("animatediff", {}),
    "wan_animate, LoRA": ("wan_animate", {}),
    "wan_animate, adapter parts": ("wan_animate", {"finetune": "full", "save": "merged"}),
}


def step(name: str, run: Run, with_upstreams: bool) -> dict[str, float]:
    """GiB of one step of a family under a run's settings, by what they are for, and its TFLOP;
    `with_upstreams` gradient checkpointing or ours."""
    family: Any = families.known()[name]
    published = MODELS[name]
    with torch.device("meta"):
        model = published.network()
        if run.finetune == "full":
            family.freeze(model, run)
        else:
            family.add_adapters(model, run)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _fill(model, loading.dtype(run))
        model.train()
        if with_upstreams:
            model.enable_gradient_checkpointing()
        else:
            family.checkpoint_gradients(model)
        loaded = Loaded(model, published.pipeline())
        batch = published.batch(run, *run.clip.sizes[0])
        learnt = [p for p in model.parameters() if p.requires_grad]
        for parameter in learnt:  # as after the first of the batches that make an update
            parameter.grad = torch.empty_like(parameter)
        gradients = [p.grad for p in learnt if p.grad is not None]
        living = Living([*model.parameters(), *gradients])
        held = living.now
        told = {"seeds": list(range(run.batch_size)), "guidance_dropout": 0.1}
        whole = Batch(batch | told, run.batch_size)

        def there_and_back() -> None:
            with torch.autocast("cpu", loading.dtype(run)):
                loss = family.loss(loaded, model, whole)
            loss.backward()

        with living:
            there_and_back()
        with FlopCounterMode(display=False) as counter:  # on its own, because it keeps tensors
            there_and_back()
    numbers = sum(p.numel() for p in learnt)
    found = {
        "weights": held - 4 * numbers,
        "learning": (LEARNING_BYTES + 4 * (run.ema_decay is not None)) * numbers,
        "loss": living.most - held,
    }
    gib = {key: value / GIB for key, value in (found | {"all": sum(found.values())}).items()}
    return gib | {"TFLOP": counter.get_total_flops() / 1e12}


def _fill(model: Any, dtype: torch.dtype | None) -> None:
    """Give parameters and buffers a place: what learns and what upstream wants in float32."""
    wide = model._keep_in_fp32_modules or ()
    for name, module in model.named_modules():
        for key, value in module._parameters.items():
            if value is not None:
                exact = value.requires_grad or set(wide) & {*name.split("."), key}
                made = torch.empty(value.shape, dtype=torch.float32 if exact else dtype)
                module._parameters[key] = torch.nn.Parameter(made, value.requires_grad)
        for key, value in module._buffers.items():
            if value is not None:
                module._buffers[key] = torch.empty(value.shape, dtype=value.dtype)


def _row(which: tuple[str, bool]) -> dict[str, float]:
    """One step of a row of the table, with upstream's gradient checkpointing or ours."""
    label, with_upstreams = which
    name, other = ROWS[label]
    path = REPOSITORY / "config" / "examples" / f"{name}.yaml"
    run = Run(**(yaml.safe_load(path.read_text(encoding="utf-8"))["train"] | other))
    return step(name, run, with_upstreams)


def measured(_: Path, options: Options) -> Measured:
    """Compute and print every row."""
    found = {}
    columns = ("weights", "learning", "loss", "all", "upstream's", "TFLOP", "upstream's TFLOP")
    print(f"{'GiB':<30}" + "".join(f"{column:>{len(column) + 4}}" for column in columns))
    both = [(label, upstreams) for label in options.rows for upstreams in (False, True)]
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as pool:
        made = dict(zip(both, pool.map(_row, both), strict=True))
    for label in options.rows:
        ours, theirs = made[label, False], made[label, True]
        found[label] = ours | {"upstream's": theirs["all"], "upstream's TFLOP": theirs["TFLOP"]}
        values = "".join(f"{found[label][column]:>{len(column) + 4}.1f}" for column in columns)
        print(f"{label:<30}{values}", flush=True)
    targets = [Target(f"{label}, GiB", found[label]["all"], MAX_GIB) for label in found]
    return {"gib_and_tflop": found}, targets


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        rows=(list(ROWS), ["animatediff"], "of the table"),
    )
