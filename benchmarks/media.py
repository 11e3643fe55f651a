"""Frames and audio through the graph, against the same functions in a bare process pool.

uv run python benchmarks/media.py

The pool makes the same bytes, which is checked, so what is left is what the graph costs. FFmpeg's
own program, which makes as many frames and as much sound, tells what the decoding itself costs.
"""

import hashlib
import inspect
import multiprocessing
import os
import resource
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import ffmpeg
import measure
import yaml
from measure import Cost, Measured, Options, Target, write

from spark_trainer import config as settings
from spark_trainer.config import Config
from spark_trainer.data.files import file_digest
from spark_trainer.media import sound, stills
from spark_trainer.steps import audio, frames

CLIPS = measure.REPOSITORY / "config/demo/clips"
SOURCES = ("bunny.mp4", "cup.mp4", "globe-reading.mp4", "hello.mpeg", "title.mp4")
CUTS = 20  # of 5 sources and 4 lengths
MAX_RATIO = 1.10
MAX_OVERHEAD_MS = 60.0


def make_clips(folder: Path, count: int, size: str, cores: int) -> None:
    """Cut clips of 8 to 11 s from the shipped ones; beyond the first 20, the same with a mark."""
    folder.mkdir(parents=True, exist_ok=True)
    due = [number for number in range(count) if not (folder / f"{number:04d}.mp4").exists()]
    cut = [number for number in due if number < CUTS]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda number: _make_clip(folder, number, size), cut))
    for number in due[len(cut) :]:
        mark = struct.pack(">I4sI", 12, b"free", number)  # a box that readers skip
        content = (folder / f"{number % CUTS:04d}.mp4").read_bytes() + mark
        (folder / f"{number:04d}.mp4").write_bytes(content)


def _make_clip(folder: Path, number: int, size: str) -> None:
    source = CLIPS / SOURCES[number % len(SOURCES)]
    target = folder / f"{number:04d}.mp4"
    temporary = folder / f".{number:04d}.mp4"
    clip = ffmpeg.input(str(source), stream_loop=-1)
    shown = clip["v:0"].filter("scale", *size.split(":")).filter("setsar", 1)
    part = {"ss": f"{number % 7 * 0.4:.1f}", "t": 8 + number % 4}
    codecs = {"vcodec": "libx264", "preset": "superfast", "pix_fmt": "yuv420p", "acodec": "aac"}
    write(shown.output(clip["a:0?"], str(temporary), threads=1, **part, **codecs))
    temporary.rename(target)


def cached_clips(count: int, size: str, cores: int) -> Path:
    """Make the clips, once per version of the recipe and its sources."""
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


def program(clip: Path, folder: Path, config: Config) -> None:
    """Make as many frames, and the sound, of a clip with FFmpeg's own program."""
    rate = config.frames.frame_rate
    grid = f"isnan(prev_selected_t)+gt(floor(t*{rate}),floor(prev_selected_t*{rate}))"
    source = ffmpeg.input(str(clip), threads=1)
    chosen = source.video.filter("select", grid)
    jpeg = {"q:v": config.frames.jpeg_qscale, "fps_mode": "passthrough", "threads": 1}
    shown = chosen.output(str(folder / "frame_%06d.jpg"), **jpeg)
    write(shown.global_args("-filter_complex_threads", "1"))
    if sound.tracks(str(clip)):
        heard = source.audio.filter("aresample", **{"async": 1, "first_pts": 0})
        wav = {"ac": config.audio.channels, "ar": config.audio.sample_rate, "threads": 1}
        write(heard.output(str(folder / "audio.wav"), **wav))


def functions(clip: Path, folder: Path, config: Config) -> None:
    """Make of a clip, with the steps' own functions, the same bytes as the graph."""
    stills.extract(*frames.arguments(clip, folder, config.frames))
    own = config.audio
    chosen = audio.choose(sound.tracks(str(clip)), own.track)
    if chosen:
        wav, limits = str(folder / "audio.wav"), (own.sample_rate, own.channels, own.max_silence_s)
        sound.write_wav(str(clip), chosen["track"], wav, *limits)


Way = Callable[[Path, Path, Config], None]


def bare(way: Way, clips: Path, target: Path, cores: int) -> Cost:
    """Make frames and sound of every clip with `cores` processes at once and nothing else."""
    config, paths = settings.load(_config(clips)), sorted(clips.glob("*.mp4"))
    before, started = _cpu_s(), time.perf_counter()
    folders = [target / path.stem for path in paths]
    for folder in folders:
        folder.mkdir(parents=True)
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(way, paths, folders, [config] * len(paths)))
    return Cost(time.perf_counter() - started, _cpu_s() - before, 0.0)


def results(folder: Path) -> list[list[tuple[str, str]]]:
    """Names and digests of each clip's frames and sound below a folder, whatever it is called."""
    homes = {path.parent for path in folder.rglob("frame_*.jpg")}
    found = []
    for home in homes:
        # The graph keeps frames in a folder of their own.
        sounds = [*home.glob("audio.wav"), *home.parent.glob("audio.wav")]
        made = [*home.glob("*.jpg"), *sounds]
        found.append(sorted((path.name, file_digest(path)) for path in made))
    return sorted(found)


def _cpu_s() -> float:
    """CPU seconds of this process and of every finished child."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(kind) for kind in kinds]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def graph(folder: Path, clips: Path, cores: int) -> Cost:
    """Build the manifest with frames and audio, hashing and Snakemake included."""
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
    warm = folder / "warm"
    warm.mkdir()
    shutil.copy(clips / "0000.mp4", warm)
    measure.row("snakemake manifest, 1 clip, first start", graph(folder / "first", warm, cores))
    fixed = graph(folder / "fixed", warm, cores)
    measure.row("snakemake manifest, 1 clip", fixed)

    def pool(name: str, way: Way) -> tuple[Cost, list[list[tuple[str, str]]]]:
        cost = bare(way, clips, folder / "bare", cores)
        measure.row(name, cost)
        made = results(folder / "bare")
        shutil.rmtree(folder / "bare")
        return cost, made

    program_s, made = pool("FFmpeg's own program in a bare pool", program)
    first, expected = pool("the steps' functions in a bare pool, run 1", functions)
    assert sorted(map(len, made)) == sorted(map(len, expected)), "other frames or sounds"
    ours, theirs = [], [first]
    for number in range(1, repeats + 1):
        ours.append(graph(folder / "graph", clips, cores))
        measure.row(f"snakemake manifest, run {number}", ours[-1])
        assert results(folder / "graph/out") == expected, "the pool did not do the same"
        shutil.rmtree(folder / "graph")
        cost, _ = pool(f"the steps' functions in a bare pool, run {number + 1}", functions)
        theirs.append(cost)
    return {"graph": ours, "bare": theirs, "ffmpeg": [program_s], "graph_of_one_clip": [fixed]}


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


def measured(folder: Path, options: Options) -> Measured:
    """Measure the graph beside a bare pool and FFmpeg's own program."""
    clips = cached_clips(options.videos, options.size, options.cores)
    measure.heading(f"{options.videos} clips of {options.size}, {options.cores} cores")
    costs = compare(clips, options.cores, options.repeats, folder)
    targets = []
    for figure, label in (("wall_s", "wall"), ("cpu_s", "CPU")):
        pairs = ratios(costs["graph"], costs["bare"], figure)
        ratio, excess_s = (statistics.median(column) for column in zip(*pairs, strict=True))
        overhead_ms = excess_s / options.videos * 1000
        targets += [
            Target(f"graph / bare pool, {label}", ratio, MAX_RATIO),
            Target(f"graph overhead per video, {label} ms", overhead_ms, MAX_OVERHEAD_MS),
        ]
    own, theirs = measure.median(costs["graph"]), costs["ffmpeg"][0]
    walls, cpus = own.wall_s / theirs.wall_s, own.cpu_s / theirs.cpu_s
    print(f"\ngraph / FFmpeg's own program: wall {walls:.2f}, CPU {cpus:.2f}")
    return costs, targets


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        videos=(200, 4, "clips"),
        size=("1280:720", "160:90", "width:height of the clips"),
        repeats=(2, 1, "runs of the graph"),
        cores=(len(os.sched_getaffinity(0)), 2, "processes at once"),
    )
