"""The optimizer and its schedule."""

import torch
from transformers import get_scheduler

from spark_trainer.config import Run


def optimizer(model: torch.nn.Module, run: Run) -> torch.optim.Optimizer:
    """AdamW that decays matrices only: biases and norms are vectors and keep their scale."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": run.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=run.learning_rate)


def schedule(
    optimizer: torch.optim.Optimizer, run: Run, total: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up, then the configured shape over `total` updates."""
    name = run.schedule if run.schedule != "constant" else "constant_with_warmup"
    made: torch.optim.lr_scheduler.LRScheduler = get_scheduler(
        name, optimizer, run.warmup_steps, total
    )
    return made
