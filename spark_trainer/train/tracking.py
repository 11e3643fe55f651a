"""What a run tells while it trains: `metrics.jsonl`, TensorBoard events, samples."""

import io
import json
import math
import resource
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from spark_trainer import log
from spark_trainer.data import video
from spark_trainer.data.files import canonical_json, write_json, write_text
from spark_trainer.runs.folder import RunFolder

SHEET_COLUMNS = 8  # most frames of a clip on a contact sheet


@dataclass(frozen=True)
class Film:
    """A held-out clip beside what the model made of it."""

    video: str
    caption: str
    fps: float
    truth: Sequence[Image.Image]
    made: Sequence[Image.Image]


class Tracker:
    """Writes the metrics of one run; lines after the resumed update (-1: none) are taken back."""

    def __init__(
        self, folder: RunFolder, resumed_step: int, wandb_project: str | None = None
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._path = folder.metrics
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if _step(line) <= resumed_step]
            write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._metrics = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._events = SummaryWriter(str(folder.events), purge_step=resumed_step + 1)
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
        write_json(self._folder.sample(step), samples)
        for sample in samples:
            text = "sample at step %d, %s: %r (manifest: %r)"
            short = sample["video"][:12]
            log.logger.info(text, step, short, sample["generated"], sample["caption"])

    def films(self, step: int, films: Iterable[Film]) -> None:
        """Record generated videos, and a sheet whose rows are a clip's own frames and the made."""
        listing = self._folder.sample(step)
        folder = listing.with_suffix("")
        listed, rows = [], []
        for film in films:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{film.video}.mp4"
            video.write(path, film.made, film.fps)
            rows += [_row(film.truth), _row(film.made)]
            file = f"{folder.name}/{path.name}"
            listed.append({"video": film.video, "caption": film.caption, "file": file})
            self._animation(f"sample/{film.video[:12]}", step, film)
            log.logger.info("sample at step %d, %s: %s", step, film.video[:12], path)
        write_json(listing, listed)
        if rows:
            sheet = _stacked(rows)
            sheet.save(folder / "sheet.png")
            self._events.add_image("samples", np.asarray(sheet), step, dataformats="HWC")

    def _animation(self, tag: str, step: int, film: Film) -> None:
        """A GIF in TensorBoard, which is how it shows videos."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        buffer, (width, height) = io.BytesIO(), film.made[0].size
        first, *others = film.made
        pause_ms = round(1000 / film.fps)
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=pause_ms, loop=0)
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue()
        )
        value = Summary.Value(tag=tag, image=image)
        self._events._get_file_writer().add_summary(  # type: ignore[no-untyped-call]
            Summary(value=[value]), step
        )

    def close(self) -> None:
        """Flush everything."""
        self._metrics.close()
        self._events.close()
        if self._wandb:
            self._wandb.finish()


def _wandb(folder: RunFolder, project: str) -> Any:
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


def _row(images: Sequence[Image.Image]) -> Image.Image:
    """Some of the frames beside each other, evenly chosen."""
    count = min(SHEET_COLUMNS, len(images))
    chosen = [images[round(i * (len(images) - 1) / max(1, count - 1))] for i in range(count)]
    width, height = chosen[0].size
    row = Image.new("RGB", (width * count, height))
    for column, image in enumerate(chosen):
        row.paste(image, (column * width, 0))
    return row


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)))
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _step(line: str) -> int:
    """The update of a line; one that a crash cut short counts as later than any other."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return sys.maxsize
