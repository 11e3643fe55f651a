"""The cost of the data graph itself, against one job per video and step; no video is decoded.

uv run python benchmarks/graph.py
"""

import contextlib
import hashlib
import io
import json
import math
import multiprocessing
import os
import re
import shutil
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import yaml
from measure import Cost, Measured, Options, Target

from spark_trainer import config as settings
from spark_trainer import steps
from spark_trainer.config import Config
from spark_trainer.data import index
from spark_trainer.data.files import read_json, write_json
from spark_trainer.data.layout import Layout, Video
from spark_trainer.steps import manifest, runner
from spark_trainer.steps.base import Context
from spark_trainer.steps.record import Facts

NOTHING = "Nothing to be done"
JOIN_JOBS = 2  # the join, and the target that asks for it

NAIVE = """
VIDEOS = glob_wildcards("videos/{video}.mp4").video

rule manifest:
    input:
        expand("out/{video}/frames.txt", video=VIDEOS),
        expand("out/{video}/transcript.json", video=VIDEOS),
        expand("out/{video}/caption.json", video=VIDEOS),
    output:
        "out/manifest.jsonl",
    script:
        "join.py"

rule frames:
    input: "videos/{video}.mp4"
    output: "out/{video}/frames.txt"
    shell: "cp {input} {output}"

rule audio:
    input: "videos/{video}.mp4"
    output: "out/{video}/audio.wav"
    shell: "cp {input} {output}"

rule transcript:
    input: "out/{video}/audio.wav"
    output: "out/{video}/transcript.json"
    shell: "cp {input} {output}"

rule caption:
    input: "out/{video}/frames.txt"
    output: "out/{video}/caption.json"
    shell: "cp {input} {output}"
"""
NAIVE_JOIN = """
from pathlib import Path
Path(snakemake.output[0]).write_text("".join(f"{name}\\n" for name in snakemake.input))
"""
NAIVE_FILES = ("frames.txt", "audio.wav", "transcript.json", "caption.json")

EXAMPLE = measure.REPOSITORY / "config/demo/clips/title.mp4"


def make_videos(folder: Path, count: int) -> list[str]:
    """Write `count` tiny files, each with its own content."""
    names = [f"{number // 1000:03d}_{number % 1000:03d}" for number in range(count)]
    (folder / "videos").mkdir(parents=True)
    for name in names:
        (folder / "videos" / f"{name}.mp4").write_text(content(name))
    return names


def content(name: str) -> str:
    """Return the content of a synthetic video."""
    return f"video {name}\n"


@dataclass(frozen=True)
class Example:
    """One real clip after every step of the demo: its configuration, and each step's record."""

    config: dict[str, Any]
    records: dict[str, Facts]


def example(folder: Path) -> Example:
    """Build the example, in a process of its own, so that models leave this one small."""
    demo = yaml.safe_load((measure.REPOSITORY / "config/config.yaml").read_text())
    demo.pop("train")
    demo |= {"video_dir": "videos", "output_dir": "data/processed"}
    (folder / "videos").mkdir(parents=True)
    shutil.copy(EXAMPLE, folder / "videos")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return Example(demo, pool.submit(_records, folder, demo).result())


def _records(folder: Path, demo: dict[str, Any]) -> dict[str, Facts]:
    os.chdir(folder)
    config = settings.load(demo)
    found = index.scan(config)
    [part] = found.shards
    [video] = part.videos
    records = {}
    for name, fingerprint, context in _steps(config, found):
        runner.run(name, fingerprint, part, context)
        records[name] = read_json(steps.load(name).path(found.layout, video), dict)
    return records


def _steps(config: Config, found: index.Index) -> Iterator[tuple[str, str, Context]]:
    """Every step that is switched on, with its fingerprint and what its jobs are given."""
    fingerprints = steps.fingerprints(config)
    for name in steps.enabled(config):
        yield name, fingerprints[name], Context(found.layout, steps.section(config, name), 1)


class Ours:
    """A store in the state that a finished build of this project leaves."""

    def __init__(self, folder: Path, count: int, made: Example) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self._changes = 0
        make_videos(folder, count)
        self.config.write_text(yaml.safe_dump(made.config))
        with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
            _finish(settings.load(made.config), made.records)
        _, jobs = self.plan()
        assert jobs == JOIN_JOBS, jobs
        self.build()
        self._run("--cores", "1", "--touch", "--forceall", "manifest")
        self.noop()

    def noop(self) -> Cost:
        """Run a build with nothing to do."""
        cost, output = self._run("--cores", "2", "manifest")
        assert NOTHING in output, output
        return cost

    def change(self) -> None:
        """Give one video another content."""
        self._changes += 1
        (self.folder / "videos/000_000.mp4").write_text(f"change {self._changes}\n")

    def plan(self) -> tuple[Cost, int]:
        """Run a dry run; returns how many jobs it planned, too."""
        cost, output = self._run("--cores", "2", "-n", "manifest")
        jobs = re.search(r"^total\s+(\d+)$", output, re.MULTILINE)
        assert jobs, output
        return cost, int(jobs[1])

    def explain(self) -> Cost:
        """Let `plan` say what is due, and why."""
        command = [sys.executable, "-m", "spark_trainer", "plan", "manifest"]
        cost, output = measure.run([*command, "--config", str(self.config)], self.folder)
        assert "000_000.mp4 changed → " in output, output
        return cost

    def build(self) -> Cost:
        """Build what is due."""
        return self._run("--cores", "2", "manifest")[0]

    def _run(self, *arguments: str) -> tuple[Cost, str]:
        return measure.run(measure.ours(self.config, *arguments), self.folder)


def _finish(config: Config, records: dict[str, Facts]) -> None:
    """Leave what the steps and the manifest's jobs leave: records, files, markers and parts."""
    found = index.scan(config)
    for name, fingerprint, context in _steps(config, found):
        for video in found.videos.values():
            _fill(found.layout, video, name, records[name])
        for part in found.shards:
            marker = found.marker(name, fingerprint, part)
            counts = runner.run(name, fingerprint, part, context, marker)
            assert counts == {"current": len(part.videos)}, counts
    fingerprint = manifest.fingerprints(config)["manifest"]
    for part in found.shards:
        marker = found.marker("manifest", fingerprint, part)
        manifest.part(found.layout, part, steps.reported(config), fingerprint, marker)


def _fill(layout: Layout, video: Video, name: str, record: Facts) -> None:
    """Write a step's record of a video, and the files that it promises, empty."""
    step = steps.load(name)
    for file in step.files(layout, video, step.RECORD.from_json(record)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    path = step.path(layout, video)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record | {"video": video.hash}, flushed=False)


class Naive:
    """A store in the state that a finished build of the naive graph leaves."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        names = make_videos(folder, count)
        (folder / "Snakefile").write_text(NAIVE)
        (folder / "join.py").write_text(NAIVE_JOIN)
        one = folder / "one"
        model = _records_of_one(one)
        shutil.rmtree(one)
        for name in names:
            (folder / "out" / name).mkdir(parents=True)
            for file in NAIVE_FILES:
                (folder / "out" / name / file).write_text(content(name))
        self._write_records(names, model)

    def noop(self) -> Cost:
        """Run a build with nothing to do."""
        cost, output = measure.run(measure.snakemake("--cores", "2", "manifest"), self.folder)
        assert NOTHING in output, output
        return cost

    def _write_records(self, names: list[str], model: dict[str, str]) -> None:
        """Snakemake's own records: those of one real video, with another name and checksum."""
        metadata = self.folder / ".snakemake/metadata"
        metadata.mkdir(parents=True)
        joined = json.loads(model.pop("out/manifest.jsonl"))
        joined |= {"input": [], "input_checksums": {}}
        for name in names:
            checksum = _checksum(name)
            for path, text in model.items():
                text = text.replace("only", name).replace(_checksum("only"), checksum)
                (metadata / _record_name(path.replace("only", name))).write_text(text)
            inputs = [f"out/{name}/{file}" for file in NAIVE_FILES if file != "audio.wav"]
            joined["input"] += inputs
            joined["input_checksums"] |= dict.fromkeys(inputs, f"sha256:{checksum}")
        joined["input"].sort()
        (metadata / _record_name("out/manifest.jsonl")).write_text(json.dumps(joined))
        (self.folder / "out/manifest.jsonl").write_text("\n".join(joined["input"]))


def _records_of_one(folder: Path) -> dict[str, str]:
    """Build the naive graph of one video for real; returns Snakemake's record of each output."""
    (folder / "videos").mkdir(parents=True)
    (folder / "videos/only.mp4").write_text(content("only"))
    (folder / "Snakefile").write_text(NAIVE)
    (folder / "join.py").write_text(NAIVE_JOIN)
    measure.run(measure.snakemake("--cores", "1", "manifest"), folder)
    outputs = ["out/manifest.jsonl", *(f"out/only/{file}" for file in NAIVE_FILES)]
    metadata = folder / ".snakemake/metadata"
    return {output: (metadata / _record_name(output)).read_text() for output in outputs}


def _record_name(output: str) -> str:
    return urlsafe_b64encode(output.encode()).decode()


def _checksum(name: str) -> str:
    return hashlib.sha256(content(name).encode()).hexdigest()


def exponent(points: dict[int, float]) -> float:
    """Fit a line through the logarithms by least squares; returns its slope."""
    xs = [math.log(count) for count in points]
    ys = [math.log(max(seconds, 1e-3)) for seconds in points.values()]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return above / sum((x - x_mean) ** 2 for x in xs)


def grow(folder: Path, count: int, repeats: int, made: Example) -> Cost:
    """Measure a build with nothing to do in a store of `count` videos."""
    store = Ours(folder, count, made)
    cost = measure.median([store.noop() for _ in range(repeats)])
    measure.row(f"ours, no-op, {count:,} videos", cost)
    shutil.rmtree(folder)
    return cost


def compare(folder: Path, count: int, repeats: int, made: Example) -> dict[str, Any]:
    """Both graphs on the same videos, ours before and after the naive one; then one change."""
    store, other = Ours(folder / "ours", count, made), Naive(folder / "naive", count)
    first = [store.noop() for _ in range(repeats)]
    naive = other.noop()
    noop = measure.median(first + [store.noop() for _ in range(repeats)])
    measure.row(f"naive, no-op, {count:,} videos", naive)
    measure.row(f"ours, no-op, {count:,} videos", noop)
    plans, explained, jobs = [], [], 0
    for _ in range(repeats):
        store.change()
        plan, jobs = store.plan()
        plans.append(plan)
        explained.append(store.explain())
    changed, why = measure.median(plans), measure.median(explained)
    measure.row("ours, 1 changed: index and plan (-n)", changed)
    measure.row("ours, 1 changed: what is due and why (plan)", why)
    build = store.build()
    measure.row(f"ours, 1 changed: its {jobs} jobs, not decoding", build)
    store.noop()
    shutil.rmtree(folder)
    return {
        "naive_noop": naive,
        "noop": noop,
        "changed_plan": changed,
        "changed_why": why,
        "changed_build": build,
        "changed_jobs": jobs,
    }


def measured(folder: Path, options: Options) -> Measured:
    """Measure our graph beside a naive one, then how it grows."""
    measure.heading("graph, nothing decoded")
    repeats, made = options.repeats, example(folder / "example")
    one = compare(folder / "compared", options.videos, repeats, made)
    noops = {n: grow(folder / "ours", n, repeats, made) for n in options.sizes}
    noop, naive, plan = one["noop"], one["naive_noop"], one["changed_plan"]
    why = one["changed_why"]
    start = noops[1]
    noops = dict(sorted((noops | {options.videos: noop}).items()))
    if not options.smoke:
        del noops[1]
    walls = {count: cost.wall_s for count, cost in noops.items()}
    cpus = {count: cost.cpu_s for count, cost in noops.items()}
    growth = {
        "wall": exponent(walls),
        "cpu": exponent(cpus),
        "wall_net_of_start": exponent({n: s - start.wall_s for n, s in walls.items()}),
        "cpu_net_of_start": exponent({n: s - start.cpu_s for n, s in cpus.items()}),
    }
    print("\ngrowth exponents: " + ", ".join(f"{k} {v:.2f}" for k, v in growth.items()))
    targets = [
        Target("no-op / naive no-op, wall", noop.wall_s / naive.wall_s, 1 / 20),
        Target("no-op / naive no-op, CPU", noop.cpu_s / naive.cpu_s, 1 / 20),
        Target("index and plan of 1 changed / no-op, wall", plan.wall_s / noop.wall_s, 2.0),
        Target("index and plan of 1 changed / no-op, CPU", plan.cpu_s / noop.cpu_s, 2.0),
        Target("what 1 changed makes due, and why / no-op, wall", why.wall_s / noop.wall_s, 2.0),
        Target("growth exponent of the no-op, wall", growth["wall"], 1.1),
        Target("growth exponent of the no-op, CPU", growth["cpu"], 1.1),
    ]
    return {"compared": one, "start": start, "noops": noops, "growth": growth}, targets


if __name__ == "__main__":
    os.environ.pop("SPARK_TRAINER_INDEX", None)
    measure.main(
        __doc__,
        measured,
        videos=(20_000, 6, "of the comparison"),
        sizes=(
            [1, 1_000, 5_000, 50_000],
            [1],
            "videos of the other stores; 1 is Snakemake's start",
        ),
        repeats=(3, 1, "runs of each of our figures"),
    )
