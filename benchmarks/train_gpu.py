"""MFU of the training loop at the sizes of Qwen2-VL-2B and -7B, random weights, on one GPU."""

import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import measure
import torch
import train_setup
from train_setup import Shape

# From the config.json of Qwen/Qwen2-VL-2B-Instruct and -7B-Instruct; how each fits on 80 GB.
SHAPES = {
    "Qwen2-VL-2B": (Shape(1536, 8960, 28, 12, 2, 151936, True, 32, 1280, 16), "full"),
    "Qwen2-VL-7B": (Shape(3584, 18944, 28, 28, 4, 152064, False, 32, 1280, 16), "lora"),
}
BATCHES = {"image": (1, 16), "video": (16, 4)}  # frames of a clip, clips of a batch
SIDE = 448  # pixels; about 256 tokens for an image, or for two frames
SETTINGS = {
    "packing": True,
    "max_length": 4096,
    "mixed_precision": "bf16",
    "gradient_checkpointing": True,
    "save": "adapter",
    "max_steps": 20,
    "num_workers": 8,
}


def rows(
    base: Path, shapes: dict[str, tuple[Shape, str]] = SHAPES, device: str = "cuda", **more: Any
) -> dict[str, dict[str, float]]:
    """Median MFU, tokens/s and peak memory for each shape and kind of batch."""
    print(f"\n{'on one GPU':<44}{'MFU':>9}{'tokens/s':>9}{'peak GB':>9}")
    found = {}
    texts = train_setup.answers(100, 50, 400)
    for kind, (num_frames, _) in BATCHES.items():
        train_setup.manifest(base / kind, texts, num_frames, (640, 360))
    for name, (shape, finetune) in shapes.items():
        scratch = finetune == "full"  # otherwise the weights have to lie somewhere
        dtype = None if scratch else torch.bfloat16
        model = train_setup.checkpoint(base / name, shape, SIDE, dtype, device)
        for kind, (num_frames, batch_size) in BATCHES.items():
            own = {
                "model_name": str(model),
                "from_scratch": scratch,
                "finetune": finetune,
                "manifest_path": str(base / kind / "manifest_v1.jsonl"),
                "clip": {"num_frames": num_frames},
                "batch_size": batch_size,
            }
            folder = train_setup.run_folder(f"{name}-{kind}", base, device, **SETTINGS | own | more)
            measure.run([sys.executable, "-m", "spark_trainer.train.process", str(folder)], base)
            steps = train_setup.steps(folder)
            mfu = statistics.median(line["mfu"] for line in steps.metrics)
            rate, gb = steps.tokens_per_s, steps.metrics[-1]["memory_gb"]
            label = f"{name}, {finetune}, {kind}"
            print(f"{label:<44}{mfu:>9.3f}{rate:>9.0f}{gb:>9.1f}", flush=True)
            found[label] = {"mfu": mfu, "tokens_per_s": rate, "peak_gb": gb}
            shutil.rmtree(folder)  # weights and optimizer of the last step, up to 35 GB
        shutil.rmtree(model)
    return found
