"""Frames and audio through the graph, against FFmpeg's own program in a bare process pool.

uv run python benchmarks/media.py
"""

import argparse
import hashlib
import inspect
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure
import yaml
from measure import Cost, Target, ffmpeg

from spark_trainer import config as settings
from spark_trainer.media.source import opened

CLIPS = measure.REPOSITORY / "config/demo/clips"
SOURCES = ("bunny.mp4", "cup.mp4", "globe-reading.mp4", "hello.mpeg", "title.mp4")
MAX_RATIO = 1.10
MAX_OVERHEAD_MS = 60.0


def make_clips(folder: Path, count: int, size: str, cores: int) -> None:
    """Cut `count` clips of 8 to 11 s from the shipped ones, each with its own colours."""
    folder.mkdir(parents=True, exist_ok=True)
    due = [number for number in range(count) if not (folder / f"{number:04d}.mp4").exists()]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda number: _make_clip(folder, number, size), due))


def _make_clip(folder: Path, number: int, size: str) -> None:
    source = CLIPS / SOURCES[number % len(SOURCES)]
    target = folder / f"{number:04d}.mp4"
    temporary = folder / f".{number:04d}.mp4"
    arguments = [
        *("-stream_loop", "-1", "-i", str(source), "-ss", f"{number % 7 * 0.4:.1f}"),
        *("-t", str(8 + number % 4), "-map", "0:v:0", "-map", "0:a:0?"),
        *("-vf", f"scale={size},setsar=1,hue=h={number * 360 // 211}"),
        *("-c:v", "libx264", "-preset", "superfast", "-pix_fmt", "yuv420p", "-threads", "1"),
        *("-c:a", "aac", "-y", str(temporary)),
    ]
    ffmpeg(*arguments)
    temporary.rename(target)


def cached_clips(count: int, size: str, cores: int) -> Path:
    """The clips, made once per version of the recipe and its sources."""
    digest = hashlib.sha256(inspect.getsource(_make_clip).encode())
    for name in SOURCES:
        digest.update((CLIPS / name).read_bytes())
    folder = (
        Path(tempfile.gettempdir())
        / f"spark-media-{digest.hexdigest()[:12]}-{size.replace(':', 'x')}-{count}"
    )
    started = time.perf_counter()
    make_clips(folder, count, size, cores)
    total_mb = sum(path.stat().st_size for path in folder.glob("*.mp4")) / 1e6
    print(f"{count} clips, {total_mb:.0f} MB, ready in {time.perf_counter() - started:.1f} s")
    return folder


def commands(clips: Iterable[Path], target: Path, config: settings.Config) -> list[list[str]]:
    """Calls of FFmpeg's own program that write the same frames and sound below `target`."""
    found: list[list[str]] = []
    rate = config.frames.frame_rate
    grid = f"isnan(prev_selected_t)+gt(floor(t*{rate}),floor(prev_selected_t*{rate}))"
    for clip in clips:
        read = ["-threads", "1", "-i", str(clip)]
        jpeg = ["-q:v", str(config.frames.jpeg_qscale), "-threads", "1"]
        chosen = ["-fps_mode", "passthrough", "-vf", f"select='{grid}'", "-filter_threads", "1"]
        found.append([*read, *chosen, *jpeg, str(target / clip.stem / "frame_%06d.jpg")])
        with opened(clip) as source:
            if source.container.streams.audio:
                wav = ["-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", "16000"]
                found.append([*read, *wav, "-threads", "1", str(target / clip.stem / "audio.wav")])
    return found


def bare(calls: list[list[str]], folders: Iterable[Path], cores: int) -> Cost:
    """Run the calls with `cores` processes at once and nothing else."""
    before, started = _cpu_s(), time.perf_counter()
    for folder in folders:
        folder.mkdir(parents=True)
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda call: ffmpeg(*call), calls))
    return Cost(time.perf_counter() - started, _cpu_s() - before, 0.0)


def _cpu_s() -> float:
    """CPU seconds of this process and of every finished child."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(kind) for kind in kinds]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def graph(folder: Path, clips: Path, cores: int) -> Cost:
    """A first build of the manifest with frames and audio, hashing and Snakemake included."""
    folder.mkdir()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(_config(clips)))
    cost, _ = measure.run(measure.ours(config, "--cores", str(cores), "manifest"), folder)
    count = len((folder / "out/manifest_v1.jsonl").read_text().splitlines())
    assert count == len(list(clips.glob("*.mp4"))), count
    return cost


def _config(clips: Path) -> dict[str, object]:
    off = {"enabled": False}
    return {"video_dir": str(clips), "output_dir": "out", "transcript": off, "caption": off}


def compare(clips: Path, cores: int, repeats: int, folder: Path) -> dict[str, list[Cost]]:
    """Time the graph `repeats` times, the pool before and after each; and a graph of one clip."""
    config = settings.load(_config(clips))
    paths = sorted(clips.glob("*.mp4"))
    warm = folder / "warm"
    warm.mkdir()
    shutil.copy(paths[0], warm)
    measure.row("snakemake manifest, 1 clip, first start", graph(folder / "first", warm, cores))
    fixed = graph(folder / "fixed", warm, cores)
    measure.row("snakemake manifest, 1 clip", fixed)

    def pool(number: int) -> Cost:
        target = folder / f"bare-{number}"
        calls = commands(paths, target, config)
        cost = bare(calls, [target / path.stem for path in paths], cores)
        measure.row(f"bare FFmpeg pool, run {number + 1}", cost)
        shutil.rmtree(target)
        return cost

    ours, theirs = [], [pool(0)]
    for number in range(repeats):
        ours.append(graph(folder / f"graph-{number}", clips, cores))
        measure.row(f"snakemake manifest, run {number + 1}", ours[-1])
        shutil.rmtree(folder / f"graph-{number}")
        theirs.append(pool(number + 1))
    return {"graph": ours, "bare": theirs, "graph_of_one_clip": [fixed]}


def ratios(ours: list[Cost], theirs: list[Cost], figure: str) -> list[tuple[float, float]]:
    """Each graph run over the mean of its two neighbours, and the difference in seconds.

    Neighbours, because a shared machine's speed drifts by a quarter within ten minutes.
    """
    found = []
    for number, cost in enumerate(ours):
        pair = theirs[number], theirs[number + 1]
        base = sum(getattr(other, figure) for other in pair) / 2
        found.append((getattr(cost, figure) / base, getattr(cost, figure) - base))
    return found


def main() -> int:
    """Measure, compare, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--size", default="1280:720", help="width:height of the clips")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    clips = cached_clips(options.videos, options.size, options.cores)
    measure.heading(f"{options.videos} clips of {options.size}, {options.cores} cores")
    with tempfile.TemporaryDirectory(prefix="spark-media-") as name:
        costs = compare(clips, options.cores, options.repeats, Path(name))
    targets = []
    for figure, label in (("wall_s", "wall"), ("cpu_s", "CPU")):
        pairs = ratios(costs["graph"], costs["bare"], figure)
        ratio, excess_s = (statistics.median(column) for column in zip(*pairs, strict=True))
        overhead_ms = excess_s / options.videos * 1000
        targets += [
            Target(f"graph / bare pool, {label}", ratio, MAX_RATIO),
            Target(f"graph overhead per video, {label} ms", overhead_ms, MAX_OVERHEAD_MS),
        ]
    figures = {"videos": options.videos, "size": options.size, "cores": options.cores}
    return measure.verdict("media", figures | costs, targets)


if __name__ == "__main__":
    sys.exit(main())
