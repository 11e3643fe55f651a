"""What a plan will take, as this store's own past jobs took it."""

import csv
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from spark_trainer import steps
from spark_trainer.data.files import Broken, read_json
from spark_trainer.data.layout import Video
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.runs.folder import RunFolder
from spark_trainer.steps import manifest, promises
from spark_trainer.store.sizes import Size

BENCHMARKS = Path("benchmarks/jobs")  # below the folder that Snakemake works in
ENCODE = "encode"
SPREAD = 2  # between the videos of jobs that a line is fitted through, at least
JOBS, RECORDS = 100, 20  # that are looked at of a step, the newest jobs first


@dataclass(frozen=True)
class Rate:
    """Seconds that a job takes by itself, and for each video that it makes something of."""

    job_s: float
    video_s: float

    def seconds(self, videos: int) -> float:
        """Return what a job over so many videos takes."""
        return self.job_s + self.video_s * videos


@dataclass(frozen=True)
class Costs:
    """What jobs of a store took, and how large their results are.

    Attributes:
        graph: the store.
        kinds: of jobs, the steps and `encode/<encoders>`.
        benchmarks: where Snakemake noted how long each job took.
    """

    graph: VideoGraph
    kinds: Sequence[str]
    benchmarks: Path = BENCHMARKS

    @cached_property
    def start_s(self) -> float:
        """Return what starting a job takes: what those of the manifest do, who make little else.

        Where none is noted yet, it is the shortest of any kind.
        """
        if parts := _noted(self.benchmarks / manifest.NAME):
            return statistics.median(parts)
        folders = {path.parent for path in self.benchmarks.rglob("*.tsv")}
        return min((one for folder in folders for one in _noted(folder)), default=0.0)

    @cached_property
    def rates(self) -> dict[str, Rate]:
        """Return how long jobs take, of those kinds that made something of videos here."""
        found = {kind: _rate(past, self.start_s) for kind, past in self._jobs.items()}
        return {kind: rate for kind, rate in found.items() if rate is not None}

    @cached_property
    def _jobs(self) -> dict[str, list[tuple[int, float]]]:
        return {kind: self._past(kind) for kind in self.kinds}

    def _past(self, kind: str) -> list[tuple[int, float]]:
        """List the videos and the seconds of past jobs whose markers still say what they did."""
        found = []
        for path in _newest(self.benchmarks / kind):
            made = _made(self._marker(kind, path.stem))
            seconds = _seconds(path)
            if made is not None and seconds is not None:
                found.append((made, seconds))
        return found

    def _marker(self, kind: str, stem: str) -> Path:
        step, _, encoders = kind.partition("/")
        if step == ENCODE:
            return self.graph.layout.encode_marker(encoders, *stem.rsplit(".", 1))
        return self.graph.layout.marker_folder(kind) / f"{stem}.jsonl"

    def bytes_of(self, step: str) -> float | None:
        """Return the mean size of a video's results of a step; None where there are none yet."""
        sizes = []
        videos = [*self.graph.index.videos.values()]
        for video in videos[:: max(1, len(videos) // (2 * RECORDS))]:
            size = self._size(step, video)
            if size:
                sizes.append(size)
            if len(sizes) == RECORDS:
                break
        return statistics.mean(sizes) if sizes else None

    def _size(self, step: str, video: Video) -> int:
        made_by, layout = steps.load(step), self.graph.layout
        path = made_by.path(layout, video)
        record = made_by.RECORD.find(path)
        named = promises.promised(made_by, layout, video, record)
        if named is None or record is None or record.video != video.hash:
            return 0
        home = layout.folder(video)
        roots = {file if file.parent == home else file.parent for file in named}
        return Size.of([path, *(root for root in roots if root.exists())]).bytes


@dataclass(frozen=True)
class Training:
    """What a finished run took: seconds, and the bytes of its folder."""

    seconds: float
    bytes: int

    @classmethod
    def of(cls, runs: Iterable[RunFolder]) -> Self | None:
        """Look at the newest of some runs that is finished; None where none is.

        A run that was taken up again counts from then on.
        """
        finished = [run for run in runs if run.summary.is_file()]
        if not finished:
            return None
        run = max(finished, key=lambda one: one.summary.stat().st_mtime)
        seconds = run.summary.stat().st_mtime - run.run_file.stat().st_mtime
        return cls(max(0.0, seconds), Size.of([run.path]).bytes)


def _newest(folder: Path) -> list[Path]:
    """List what Snakemake noted of the newest jobs of a kind, the newest first."""
    return sorted(folder.glob("*.tsv"), key=lambda path: -path.stat().st_mtime)[:JOBS]


def _noted(folder: Path) -> list[float]:
    """List the seconds of the newest jobs of a kind."""
    return [one for one in map(_seconds, _newest(folder)) if one is not None]


def _made(marker: Path) -> int | None:
    """Count the videos that a job made something of, as its marker tells."""
    try:
        counts: dict[str, int] = read_json(marker, dict)
    except (Broken, FileNotFoundError):
        return None
    return sum(counts.values()) - counts.get("current", 0)


def _seconds(benchmark: Path) -> float | None:
    """Return the wall time that Snakemake noted of a job; None where a kill cut the note."""
    with open(benchmark, encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        seconds = float(rows[-1]["s"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) else None


def _rate(past: list[tuple[int, float]], start_s: float) -> Rate | None:
    """Fit a line through past jobs; where it can't be told, a job takes `start_s` by itself.

    Jobs over nearly as many videos don't tell: noise would become what a job takes by itself.
    Those that only looked, as after other shards, tell nothing of what a video takes.
    """
    made = sum(videos for videos, _ in past)
    if not made:
        return None
    videos, seconds = zip(*past, strict=True)
    if max(videos) > SPREAD * min(videos):
        slope, at_zero = statistics.linear_regression(videos, seconds)
        if slope >= 0 and at_zero >= 0:
            return Rate(at_zero, slope)
    return Rate(start_s, max(0.0, sum(seconds) - start_s * len(past)) / made)
