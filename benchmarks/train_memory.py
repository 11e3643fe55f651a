"""What a data worker holds for a manifest of many lines; one process, started by `train.py`.

python benchmarks/train_memory.py <folder> <checkpoint> <lines>
"""

import hashlib
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import train_setup

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data import dataset, manifest
from spark_trainer.families.kinds.loading import LoadOptions
from spark_trainer.families.kinds.vision_language import Texts
from spark_trainer.train import data

BATCHES = 50


def entries(count: int, frames: str) -> Iterator[dict[str, Any]]:
    """Manifest entries with captions of about 100 characters that share one folder of frames."""
    draw = random.Random(0)
    for video in sorted(
        hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)
    ):
        source = f"recordings/{video[:12]}.mp4"
        meta = {
            "caption": " ".join(
                train_setup.word(draw.randrange(train_setup.NUM_WORDS)) for _ in range(12)
            ),
            "transcript": None,
            "duration": 4.0,
            "fps": 25.0,
            "width": 320,
            "height": 180,
            "frame_times": [0.0, 1.0, 2.0, 3.0],
            "source_path": source,
            "sources": [source],
        }
        yield {"id": video, "frames_dir": frames, "audio": None, "meta": meta}


def main() -> None:
    """Open the manifest, take some batches, and print what the worker holds."""
    base, model, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    shared = train_setup.manifest(base / f"clips-{count}", ["one"], 4, (320, 180))
    frames = json.loads(shared.read_text())["frames_dir"]
    path = shared.parent / "manifest_many.jsonl"
    manifest.write(path, entries(count, frames))
    run = Run(model_name=model)
    family = families.find(model)
    loaded = family.load(model, LoadOptions())
    began = time.perf_counter()
    samples = dataset.read(path, shared.parent, run, family.one_frame)["train"]
    open_s = time.perf_counter() - began
    reader = Texts(samples, family, loaded, run.max_length, run.packing)
    how = run.batch_size, run.batch_size, 0, 1, run.seed, run.bucketed, 0
    sampler = data.DistributedBatchSampler(samples, *how)
    taken = data.training(reader, sampler, num_workers=1, pin=False)
    for _ in range(BATCHES):
        assert not next(taken).reasons
    (worker,) = multiprocessing.active_children()
    lines = Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines()[1:]
    held = {line.split()[0].rstrip(":"): int(line.split()[1]) / 1024 for line in lines}
    found = {"open_s": open_s, "rss_mb": held["Rss"], "pss_mb": held["Pss"]}
    print(json.dumps(found | {"manifest_mb": path.stat().st_size / 1e6}))


if __name__ == "__main__":
    main()
