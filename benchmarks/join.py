"""Memory and time of joining the manifest of a million videos; parts and snapshot are synthetic.

uv run python benchmarks/join.py

Once with shards in the order of the ids, once with shards that each hold ids from everywhere, as
`deterministic_layout: false` makes them. Besides, what it costs to put a shard's records on disk.
"""

import hashlib
import multiprocessing
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure
from measure import Cost, Measured, Options, Target

from spark_trainer.data import files, parts
from spark_trainer.data.files import write_json
from spark_trainer.data.layout import Layout, Shard, Video


def entry(video: Video) -> dict[str, Any]:
    """Make a line of the size of a video's with frames, a caption and a short transcript."""
    return {
        "id": video.hash,
        "frames_dir": f"{video.folder}/frames",
        "audio": f"{video.folder}/audio.wav",
        "meta": {
            "caption": "a brown dog runs over a green lawn and catches a ball",
            "transcript": "and then he just took off across the field " * 3,
            "duration": 12.48,
            "frame_times": [round(0.5 * number, 6) for number in range(25)],
            "width": 1280,
            "height": 720,
            "fps": 25.0,
        },
    }


def shards(count: int, bits: int, scattered: bool) -> Iterator[Shard]:
    """Make the shards one by one."""
    buckets: dict[str, list[Video]] = {}
    for number in range(count):
        name = hashlib.sha256(str(number).encode()).hexdigest()
        where = hashlib.md5(name.encode()).hexdigest() if scattered else name
        first = f"{int(where[:4], 16):016b}"[:bits]
        buckets.setdefault(first, []).append(Video(name, f"{name[:2]}/{name}"))
    for first in sorted(buckets):
        yield Shard(first, tuple(buckets.pop(first)))


def write(folder: Path, count: int, bits: int, scattered: bool) -> None:
    """Write what a join reads."""
    layout, listed, sources = Layout(folder), [], {}
    for shard in shards(count, bits, scattered):
        path = layout.marker("manifest", shard.name, "f" * 16)
        parts.write(path, map(entry, shard.videos))
        listed.append([str(path), str(layout.shard(shard.name))])
        sources |= {video.hash: [f"some/folder/{video.hash[:12]}.mp4"] for video in shard.videos}
    write_json(layout.parts("s"), listed)
    write_json(layout.index("i"), sources)


def join(folder: Path, count: int, bits: int, scattered: bool) -> Cost:
    """Join as the rule does; what it reads is another process's work, whose peak would count."""
    writer = multiprocessing.Process(target=write, args=(folder, count, bits, scattered))
    writer.start()
    writer.join()
    layout, settings = Layout(folder), folder / "settings.json"
    none = {"keys": {}, "steps": []}  # is said of the videos
    write_json(settings, {"settings": none, "fingerprint": "f" * 16})
    command = [sys.executable, "-m", "spark_trainer", "join", "--settings", str(settings)]
    command += ["--index", str(layout.index("i")), "--snapshot", "i"]
    command += ["--manifest", str(layout.manifest), "--rejected", str(layout.rejected)]
    command += [
        "--marker",
        str(layout.marker_folder("join") / "s.json"),
        "--parts",
        str(layout.parts("s")),
    ]
    cost, _ = measure.run([*command, "--log", str(folder / "log")], folder)
    with open(layout.manifest, "rb") as file:
        assert sum(1 for _ in file) == count
    return cost


def flushing(folder: Path, count: int) -> dict[str, float]:
    """Time the records of a shard: without being put on disk, at the end together, one by one."""
    seconds = {}
    for name in ("not at all", "together", "one by one"):
        began = time.perf_counter()
        paths = [folder / name / str(number) / "frames.json" for number in range(count)]
        for path in paths:
            write_json(path, entry(Video("0" * 64, "00")), flushed=name == "one by one")
        if name == "together":
            files.flush([*paths, *(path.parent for path in paths)])
        seconds[name] = round(time.perf_counter() - began, 3)
    return seconds


def measured(folder: Path, options: Options) -> Measured:
    """Join manifests of both kinds of shards, then flush records."""
    count = options.videos
    found = {}
    for name, scattered in (("sorted", False), ("scattered", True)):
        found[name] = join(folder / name, count, options.bits, scattered)
        print(f"{name}: {found[name].wall_s:.1f} s, {found[name].peak_mb:.0f} MB", flush=True)
        shutil.rmtree(folder / name)
    flushed = flushing(folder, options.records)
    print(f"{options.records} records: {flushed}")
    targets = [Target(f"peak MB, {name}", cost.peak_mb, 500) for name, cost in found.items()]
    return {"records_s": flushed, **found}, targets


if __name__ == "__main__":
    measure.main(
        __doc__,
        measured,
        videos=(1_000_000, 1_000, "of the manifest"),
        bits=(11, 2, "that name a shard: 2 to the power of it are there"),
        records=(512, 8, "put on disk"),
    )
