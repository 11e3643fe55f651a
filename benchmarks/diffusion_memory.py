"""What a training step of the diffusion examples takes of a GPU's memory, computed without one.

uv run python benchmarks/diffusion_memory.py

Each file of config/examples that makes videos, at the size of the published checkpoint: only its
configuration is written, and `spark_trainer memory`'s own code computes the rest, for an update of
several batches. Upstream's own gradient checkpointing is beside ours, and what each computes.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import measure
import torch
import transformers
import yaml
from measure import REPOSITORY, Measured, Options, Target
from tokenizers import Tokenizer, models

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.train.memory_plan import GIB, Planner
from spark_trainer.train.topology import Topology

MAX_GIB = 74  # of the 79.2 that an 80 GB card has for all
NOTHING = r"(?!)"  # an expression that no name fits
VISION = {  # CLIP's ViT-H/14
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 1024,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
}


def svd() -> Any:
    """Stable Video Diffusion."""
    vision = transformers.CLIPVisionConfig(**VISION)
    return diffusers.StableVideoDiffusionPipeline(
        vae=_empty(diffusers.AutoencoderKLTemporalDecoder, **VAE),
        image_encoder=_empty(transformers.CLIPVisionModelWithProjection, vision),
        unet=_empty(
            diffusers.UNetSpatioTemporalConditionModel, num_attention_heads=(5, 10, 20, 20)
        ),
        scheduler=diffusers.EulerDiscreteScheduler(prediction_type="v_prediction"),
        feature_extractor=transformers.CLIPImageProcessor(),
    )


def animatediff() -> Any:
    """AnimateDiff's motion modules in Stable Diffusion 1.5."""
    text = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, bos_token_id=0
    )
    return _empty(
        diffusers.AnimateDiffPipeline,
        vae=_empty(diffusers.AutoencoderKL, **VAE, up_block_types=("UpDecoderBlock2D",) * 4),
        text_encoder=_empty(transformers.CLIPTextModel, text),
        tokenizer=_words(),
        unet=_empty(diffusers.UNet2DConditionModel, cross_attention_dim=768, sample_size=64),
        motion_adapter=_empty(diffusers.MotionAdapter),
        scheduler=diffusers.DDIMScheduler(),
    )


def wan_animate() -> Any:
    """Wan2.2-Animate-14B."""
    text = transformers.UMT5Config(
        vocab_size=256384, d_model=4096, d_ff=10240, num_layers=24, num_heads=64
    )
    vision = transformers.CLIPVisionConfig(**VISION)
    network = diffusers.WanAnimateTransformer3DModel
    return diffusers.WanAnimatePipeline(
        tokenizer=_words(),
        text_encoder=_empty(transformers.UMT5EncoderModel, text),
        vae=_empty(diffusers.AutoencoderKLWan),
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
        ),
        image_processor=transformers.CLIPImageProcessor(),
        image_encoder=_empty(transformers.CLIPVisionModel, vision),
        transformer=_empty(network, image_dim=1280, added_kv_proj_dim=5120),
    )


def _empty(kind: Any, *arguments: Any, **named: Any) -> Any:
    """Return a module whose weights have shapes alone."""
    with torch.device("meta"):
        return kind(*arguments, **named)


def _words() -> Any:
    """Return a tokenizer that knows no word: all texts are filled up to one length."""
    known = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(known, unk_token="<unk>")),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=77,
    )


def write(folder: Path, pipeline: Any) -> None:
    """Write the configuration of a pipeline and of its parts; of weights nothing."""
    pipeline.save_config(folder)
    for name, part in pipeline.components.items():
        if isinstance(part, transformers.PreTrainedModel):
            part.config.save_pretrained(folder / name)
        elif isinstance(part, torch.nn.Module):
            part.save_config(folder / name)
        elif part is not None:
            part.save_pretrained(folder / name)


PIPELINES = {"svd": svd, "animatediff": animatediff, "wan_animate": wan_animate}
ROWS = {
    "svd": ("svd", {}),
    "svd, all weights": ("svd", {"freeze": []}),
    "animatediff": ("animatediff", {}),
    "wan_animate, LoRA": ("wan_animate", {}),
    "wan_animate, adapter parts": ("wan_animate", {"finetune": "full", "save": "merged"}),
}


def step(name: str, run: Run, with_upstreams: bool) -> dict[str, float]:
    """Return GiB of one step of a family, by what they are for, and its TFLOP.

    Args:
        name: the family's.
        run: the settings.
        with_upstreams: gradient checkpointing as diffusers has it, without what ours adds.
    """
    family = type(families.known()[name])
    ours = family.extra_checkpointed
    with mock.patch.object(family, "extra_checkpointed", NOTHING if with_upstreams else ours):
        planner = Planner(Topology(1, 1, "cuda"), None)
        plan, found = planner.plan(run), planner.measured(run)
    learning = plan.gradients + plan.optimizer + plan.average
    parts = {
        "weights": plan.weights,
        "learning": learning,
        "loss": plan.peak - plan.weights - learning,
        "all": plan.peak,
    }
    gib = {key: value / GIB for key, value in parts.items()}
    return gib | {"TFLOP": (found.flops + found.recomputed) / 1e12, "needed": found.flops / 1e12}


def _row(which: tuple[Path, str, bool]) -> dict[str, float]:
    """One step of a row of the table, with upstream's gradient checkpointing or ours."""
    folder, label, with_upstreams = which
    name, other = ROWS[label]
    path = REPOSITORY / "config" / "examples" / f"{name}.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))["train"]
    run = Run(**(settings | other | {"model_name": str(folder / name)}))
    return step(name, run, with_upstreams)


def measured(base: Path, options: Options) -> Measured:
    """Compute and print every row."""
    for name in {ROWS[label][0] for label in options.rows}:
        write(base / name, PIPELINES[name]())
    found = {}
    columns = (
        "weights",
        "learning",
        "loss",
        "all",
        "upstream's",
        "TFLOP",
        "needed",
        "upstream's TFLOP",
    )
    print(f"{'GiB':<30}" + "".join(f"{column:>{len(column) + 4}}" for column in columns))
    both = [(base, label, upstreams) for label in options.rows for upstreams in (False, True)]
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as pool:
        made = dict(zip(both, pool.map(_row, both), strict=True))
    for label in options.rows:
        ours, theirs = made[base, label, False], made[base, label, True]
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
