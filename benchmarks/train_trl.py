"""TRL's SFTTrainer on the training samples of a run folder; one process, started by `train.py`.

python benchmarks/train_trl.py <run folder>

TRL 1.16 takes images, not videos, and refuses packing for them; so a clip here has one frame, and
TRL pads. The run's own batch size, optimizer settings, frozen part and workers hold for both, and
both learn the answers only. What else TRL sets is left as it is, but for its defaults of bf16 and
gradient checkpointing, which the run does not use.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image, List
from peft import LoraConfig
from train_setup import WARM
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
from trl import SFTConfig, SFTTrainer

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data import manifest
from spark_trainer.data.dataset import split_of
from spark_trainer.data.layout import frame_name
from spark_trainer.families.kinds import loading, prompts
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun


class Clock(TrainerCallback):
    """Seconds and real tokens of each step, from the end of one to the end of the next."""

    trainer: SFTTrainer

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self._before, self._counted = time.perf_counter(), 0

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now, counted = time.perf_counter(), self.trainer._total_train_tokens
        self.seconds.append(now - self._before)
        self.tokens.append(counted - self._counted)
        self._before, self._counted = now, counted


def samples(folder: Path, root: Path, run: Run) -> Dataset:
    """Read the training part, a prompt and a completion each, as TRL documents it."""
    rows = []
    for entry in manifest.read(folder / "manifest.jsonl"):
        if split_of(entry["id"], run.split) == "train":
            image = str(root / entry["frames_dir"] / frame_name(1))
            said = entry["meta"]["caption"]
            row = {
                "images": [image],
                "prompt": [{"role": "user", "content": prompts.PROMPT}],
                "completion": [{"role": "assistant", "content": said}],
            }
            rows.append(row)
    return Dataset.from_list(rows).cast_column("images", List(Image()))


def config(folder: Path, run: Run, device: str, max_steps: int) -> SFTConfig:
    """Return the run's settings in TRL's words."""
    return SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=run.batch_size,
        max_steps=max_steps,
        max_length=run.max_length,
        learning_rate=run.learning_rate,
        lr_scheduler_type=run.schedule,
        weight_decay=run.weight_decay,
        max_grad_norm=run.max_grad_norm,
        dataloader_num_workers=run.num_workers,
        bf16=run.mixed_precision == "bf16",
        gradient_checkpointing=run.gradient_checkpointing,
        seed=run.seed,
        use_cpu=device == "cpu",
        save_strategy="no",
        report_to="none",
    )


def adapters(run: Run) -> LoraConfig | None:
    """Return the run's adapters in PEFT's words; None where it has none."""
    if run.finetune == "full":
        return None
    targets = families.find(run.model_name).lora_targets
    return LoraConfig(r=run.lora.rank, lora_alpha=run.lora.alpha, target_modules=targets)


def train(folder: Path, max_steps: int | None = None) -> None:
    """Train, and write what the steps took to `trl.json` in the run folder.

    Args:
        folder: of the run.
        max_steps: instead of the run's own.
    """
    launched = LaunchedRun.read(RunFolder(folder))
    run = launched.settings
    narrow = loading.dtype(run) if run.finetune == "lora" else None
    model = AutoModelForImageTextToText.from_pretrained(
        run.model_name, dtype=narrow or torch.float32
    )
    if run.finetune == "full":
        families.find(run.model_name).freeze(model, run)
    clock = Clock()
    clock.trainer = SFTTrainer(
        model,
        config(folder, run, launched.device, max_steps or run.max_steps),
        train_dataset=samples(folder, launched.data_root, run),
        processing_class=AutoProcessor.from_pretrained(run.model_name),
        callbacks=[clock],
        peft_config=adapters(run),
    )
    clock.trainer.train()
    found = {"seconds": clock.seconds[WARM:], "tokens": clock.tokens[WARM:]}
    (folder / "trl.json").write_text(json.dumps(found))


if __name__ == "__main__":
    train(Path(sys.argv[1]))
