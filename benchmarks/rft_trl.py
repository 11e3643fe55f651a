"""TRL's GRPOTrainer on the training samples of a run folder.

TRL 1.16 takes images, not videos; so a clip here has one frame. Prompts of an update, answers to
each, their length, how they are drawn, reward, loss and optimizer are the run's. As in ours, no
answer holds a control token but the end. TRL's defaults bf16 and gradient checkpointing are
switched off.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image
from rft_pixels import Pixels
from rft_reward import checksum
from train_setup import WARM
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data import manifest
from spark_trainer.data.dataset import split_of
from spark_trainer.data.layout import frame_name
from spark_trainer.families.kinds import exchanges
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.rollouts import drawing
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import LaunchedRun


class Clock(TrainerCallback):
    """CPU seconds of each update, from the end of one to the end of the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._before = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.process_time()
        self.seconds.append(now - self._before)
        self._before = now


def samples(folder: Path, root: Path, run: Run) -> Dataset:
    """Read the training part, a prompt and an image each, as TRL documents it."""
    rows = [
        {
            "image": str(root / entry["frames_dir"] / frame_name(1)),
            "prompt": [{"role": "user", "content": run.text.prompt}],
        }
        for entry in manifest.read(folder / "manifest.jsonl")
        if split_of(entry["id"], run.split) == "train"
    ]
    return Dataset.from_list(rows).cast_column("image", Image())


def forbidden(run: Run) -> list[int]:
    """Return the tokens that our answers never hold."""
    loaded = families.find(run.model_name).load(run.model_name, LoadOptions())
    allowed_V = drawing.allowed(loaded, torch.device("cpu"))
    assert all(allowed_V[exchanges.ends(loaded)])
    found: list[int] = (~allowed_V).nonzero().flatten().tolist()
    return found


def config(folder: Path, run: Run) -> GRPOConfig:
    """Return the run's settings in TRL's words."""
    rft = run.rft
    return GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=run.global_batch_size * rft.num_generations,
        steps_per_generation=1,
        num_generations=rft.num_generations,
        max_completion_length=rft.max_completion_length,
        temperature=rft.temperature,
        generation_kwargs={"suppress_tokens": forbidden(run)},
        loss_type=rft.loss_type,
        importance_sampling_level=rft.importance_sampling_level,
        scale_rewards=rft.scale_rewards,
        beta=rft.beta,
        epsilon=rft.epsilon,
        epsilon_high=rft.clip_high,
        max_steps=run.max_steps,
        learning_rate=run.learning_rate,
        lr_scheduler_type=run.schedule,
        weight_decay=run.weight_decay,
        max_grad_norm=run.max_grad_norm,
        dataloader_num_workers=run.num_workers,
        logging_steps=1,
        disable_tqdm=True,
        bf16=False,
        gradient_checkpointing=False,
        seed=run.seed,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
    )


def trl(folder: Path) -> dict[str, Any]:
    """Train a run; returns the CPU seconds of its updates, and what was recorded of them."""
    launched = LaunchedRun.read(RunFolder(folder))
    run, clock, pixels = launched.settings, Clock(), Pixels()
    model = AutoModelForImageTextToText.from_pretrained(run.model_name, dtype=torch.float32)
    families.find(run.model_name).freeze(model, run)
    pixels.watch(model)
    trainer = GRPOTrainer(
        model,
        reward_funcs=checksum,
        args=config(folder, run),
        train_dataset=samples(folder, launched.data_root, run),
        processing_class=AutoProcessor.from_pretrained(run.model_name),
        callbacks=[clock],
    )
    trainer.train()
    told = [line for line in trainer.state.log_history if "completions/mean_length" in line]
    return {
        "cpu_s": clock.seconds[WARM:-1],
        "mean_length": [line["completions/mean_length"] for line in told],
        "flat": [line["frac_reward_zero_std"] for line in told],
        "pixels": dataclasses.asdict(pixels),
    }
