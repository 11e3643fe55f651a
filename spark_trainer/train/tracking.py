"""What a run tells while it trains: `metrics.jsonl`, TensorBoard events, samples."""

import io
import json
import math
import re
import resource
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from spark_trainer import methods
from spark_trainer.config import Run
from spark_trainer.data.files import canonical_json, naming, read_json, write_json, write_text
from spark_trainer.families.kinds.generated import Animation, Generated, page, sheet
from spark_trainer.runs.folder import RunFolder, step_of
from spark_trainer.system import log
from spark_trainer.train import trackers
from spark_trainer.train.events import Events
from spark_trainer.train.trackers import Outside, Shown

if TYPE_CHECKING:
    from PIL.Image import Image

Record = dict[str, Any]  # of a sample, as the lists in `samples/` have it


class Tracker:
    """Writes the metrics of one run; lines after the resumed update (-1: none) are taken back.

    Args:
        folder: of the run.
        resumed_step: the update from which it goes on.
        run: its settings.
        others: who is told the same.
    """

    def __init__(
        self, folder: RunFolder, resumed_step: int, run: Run, others: Sequence[Outside] = ()
    ) -> None:
        self._folder = folder
        self._path = folder.metrics
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if _step(line) <= resumed_step]
            write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._metrics = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._events = Events(folder.events, resumed_step)
        self._others = others
        if resumed_step < 0:
            compared = methods.find(run.model_type).objective.metric, "loss"
            self._events.settings(trackers.settings(folder, run), compared)

    @property
    def untold(self) -> dict[str, int]:
        """Return how many times a tracker could not be told something, where it ever was so."""
        return {one.name: one.untold for one in self._others if one.untold}

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record the values of one update; one that is no number becomes null."""
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with naming(self._path):
            self._metrics.write(canonical_json({"step": step, **known}) + "\n")
        self._events.numbers(step, values)
        for other in self._others:
            other.numbers(step, values)
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
        records, rows, strips, sections = [], [], [], list[str]()
        for one in shown:
            with naming(folder):
                records.append(one.save(folder))
            rows += one.rows()
            sections += filter(None, [one.section()])
            if moving := one.animation():
                self._animation(f"sample/{one.video[:12]}", step, moving)
            if frames := one.strip():
                strips.append(frames)
                self._picture(f"frames/{one.video[:12]}", step, frames, "JPEG")
            text = "sample at step %d, %s: %s"
            log.logger.info(text, step, one.video[:12], one.described(folder))
        write_json(listing, records)
        self._write_page(step, sections, [*learnt])
        file = folder / "sheet.png" if rows else None
        if file:
            self._sheet(step, file, sheet(rows))
        if records:
            columns, lines = self._table(step, records)
            self._events.text(step, "samples", _markdown(columns, lines))
            picture = sheet(rows or strips) if rows or strips else None
            for other in self._others:
                other.show(step, Shown(columns, lines, listing, picture, file))
        return records

    def _table(self, step: int, records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows of what is said of samples, and what was before training."""
        begun = next(iter(self._folder.sample_lists()))
        before: list[Record] = (
            read_json(begun, list) if step_of(begun.with_suffix("")) < step else []
        )
        columns = {key: None for one in records for key in one if _told(one[key])}
        lines = [[str(one.get(key, "")) for key in columns] for one in records]
        if _named(before) != _named(records):
            return [*columns], lines
        changed = [
            key
            for key in columns
            if any(was.get(key) != one.get(key) for was, one in zip(before, records, strict=True))
        ]
        for line, was in zip(lines, before, strict=True):
            line += [str(was.get(key, "")) for key in changed]
        return [*columns, *(f"{key} before" for key in changed)], lines

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
        encoded = self._picture("samples", step, image, "PNG")
        with naming(path):
            path.write_bytes(encoded)

    def _picture(self, tag: str, step: int, image: "Image", form: str) -> bytes:
        """Record a picture in TensorBoard; returns it encoded."""
        buffer = io.BytesIO()  # of a disk that takes no more, PIL tells no number
        image.save(buffer, form)
        self._events.picture(step, tag, buffer.getvalue(), image.size)
        return buffer.getvalue()

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
        for other in self._others:
            other.close()


def _named(records: Iterable[Record]) -> list[tuple[str, list[str]]]:
    """Return of which samples there are records, and what is said of each."""
    return [(one["video"], sorted(one)) for one in records]


def _told(value: Any) -> bool:
    """Tell whether a table shows a value of a record: a text or a number."""
    return isinstance(value, str | int | float)


def _markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in which texts are shown as they are."""
    rows = [columns, ["---"] * len(columns), *([_cell(one) for one in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(text: str) -> str:
    """Return a text on one line in which no character means anything to Markdown or HTML."""
    return re.sub(r"[^\w\s.,]|_", lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


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
