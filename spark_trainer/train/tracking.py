"""What a run tells while it trains: `metrics.jsonl`, TensorBoard events, samples."""

import json
import math
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from spark_trainer import log
from spark_trainer.data.files import canonical_json, write_json, write_text


class Tracker:
    """Writes the metrics of one run; lines after the resumed update are taken back."""

    def __init__(self, folder: Path, resumed_step: int, wandb_project: str | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._path = folder / "metrics.jsonl"
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step(line) <= resumed_step]
            write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._metrics = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)
        self._wandb = _wandb(folder, wandb_project) if wandb_project else None

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record the values of one update; one that is no number becomes null."""
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._metrics.write(canonical_json({"step": step, **known}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(known, step=step)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.logger.info("step %d: %s", step, shown)

    def samples(self, step: int, samples: list[dict[str, Any]]) -> None:
        """Record generated captions beside those of the manifest."""
        write_json(self._folder / "samples" / f"step_{step:08d}.json", samples)
        for sample in samples:
            text = "sample at step %d, %s: %r (manifest: %r)"
            short = sample["video"][:12]
            log.logger.info(text, step, short, sample["generated"], sample["caption"])

    def close(self) -> None:
        """Flush everything."""
        self._metrics.close()
        self._events.close()
        if self._wandb:
            self._wandb.finish()


def _wandb(folder: Path, project: str) -> Any:
    """A Weights & Biases run that goes on where an interrupted one stopped.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise ValueError("train.wandb_project: needs wandb: uv pip install wandb") from None
    return wandb.init(
        project=project, name=folder.name, id=folder.name, dir=str(folder), resume="allow"
    )


def peak_memory_gb() -> float:
    """Most memory this process held so far: the GPU's where there is one, else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _step(line: str) -> int:
    """The update of a line; one that a crash cut short counts as later than any other."""
    try:
        return int(json.loads(line)["step"])
    except ValueError:
        return sys.maxsize
