"""What a run tells while it trains: `metrics.jsonl`, TensorBoard events, samples."""

import io
import json
import math
import resource
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spark_trainer.data.files import canonical_json, naming, write_json, write_text
from spark_trainer.families.kinds.generated import Animation, Generated, page, sheet
from spark_trainer.runs.folder import RunFolder
from spark_trainer.system import log
from spark_trainer.train.events import Events

if TYPE_CHECKING:
    from PIL.Image import Image


class Tracker:
    """Writes the metrics of one run; lines after the resumed update (-1: none) are taken back."""

    def __init__(
        self, folder: RunFolder, resumed_step: int, wandb_project: str | None = None
    ) -> None:
        self._folder = folder
        self._path = folder.metrics
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if _step(line) <= resumed_step]
            write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._metrics = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._events = Events(folder.events, resumed_step)
        self._wandb = _wandb(folder, wandb_project) if wandb_project else None

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record the values of one update; one that is no number becomes null."""
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with naming(self._path):
            self._metrics.write(canonical_json({"step": step, **known}) + "\n")
        self._events.numbers(step, values)
        if self._wandb:
            self._wandb.log(known, step=step)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.logger.info("step %d: %s", step, shown)

    def samples(
        self, step: int, shown: Iterable[Generated], learnt: Iterable[Generated] = ()
    ) -> list[dict[str, Any]]:
        """Record what was made of held-out samples, and a sheet of what can be seen.

        Args:
            step: the update.
            shown: what was made of held-out samples.
            learnt: what the update learnt from, where that was made too.

        Returns:
            the records of held-out samples, as the list in `samples/` has them.
        """
        listing = self._folder.sample(step)
        folder = listing.with_suffix("")
        records, rows, sections = [], [], list[str]()
        for one in shown:
            with naming(folder):
                records.append(one.save(folder))
            rows += one.rows()
            sections += filter(None, [one.section()])
            if moving := one.animation():
                self._animation(f"sample/{one.video[:12]}", step, moving)
            text = "sample at step %d, %s: %s"
            log.logger.info(text, step, one.video[:12], one.described(folder))
        write_json(listing, records)
        self._write_page(step, sections, [*learnt])
        if rows:
            self._sheet(step, folder / "sheet.png", sheet(rows))
        return records

    def _write_page(self, step: int, held_out: list[str], learnt: Sequence[Generated]) -> None:
        """Write the page of samples, and a list of what was learnt from, where there are any."""
        if learnt:
            records = [one.save(self._folder.samples) for one in learnt]
            write_json(self._folder.learnt(step), records)
        of_update = [one.section() for one in learnt]
        parts = {"Held-out questions": held_out, "Questions of this update": of_update}
        if any(parts.values()):
            title = f"{self._folder.name}, update {step}"
            write_text(self._folder.sample_page(step), page(title, parts))

    def _sheet(self, step: int, path: Path, image: "Image") -> None:
        """Record a picture of all samples."""
        buffer = io.BytesIO()  # of a disk that takes no more, PIL tells no number
        image.save(buffer, "PNG")
        with naming(path):
            path.write_bytes(buffer.getvalue())
        self._events.picture(step, "samples", buffer.getvalue(), image.size)

    def _animation(self, tag: str, step: int, moving: Animation) -> None:
        """Record a GIF in TensorBoard, which is how it shows videos."""
        buffer, (first, *others) = io.BytesIO(), moving.images
        pause_ms = round(1000 / moving.fps)
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=pause_ms, loop=0)
        self._events.picture(step, tag, buffer.getvalue(), first.size)

    def close(self) -> None:
        """Flush everything."""
        with naming(self._path):
            self._metrics.close()
        self._events.close()
        if self._wandb:
            self._wandb.finish()


def _wandb(folder: RunFolder, project: str) -> Any:
    """Return a Weights & Biases run that goes on where an interrupted one stopped.

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
    """Return the most memory held so far: the GPU's where there is one, else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _step(line: str) -> int:
    """Return the update of a line; one that a crash cut short counts as later than any other."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return sys.maxsize
