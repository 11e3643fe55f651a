"""A small training set and a tiny checkpoint, as a build would leave them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState
from PIL import Image

from spark_trainer.config import Run
from spark_trainer.data.files import file_digest, read_json, write_json
from spark_trainer.data.layout import Layout
from spark_trainer.runs import configured
from spark_trainer.runs.spec import LaunchedRun, RunSpec
from spark_trainer.train import checkpoints, encode, setup
from spark_trainer.train.loop import Trainer
from spark_trainer.train.strategies import deepspeed_config
from tests.families import tiny

WORDS = ["beagle", "snow leopard", "web site", "bubble", "poodle", "lamp"]


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    yield
    fresh()


def fresh() -> None:
    """Forget what Accelerate keeps for a process: each run here is its own."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BLIP with random weights."""
    return tiny.blip(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve videos of three frames each."""
    noise = np.random.default_rng(0)
    entries = []
    for number in range(12):
        video = hashlib.sha256(str(number).encode()).hexdigest()
        frames = tmp_path / "data" / video / "frames"
        frames.mkdir(parents=True)
        for frame in (1, 2, 3):
            pixels = noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(frames / f"frame_{frame:06d}.jpg")
        meta = {"caption": f"tags: {WORDS[number % 6]}", "frame_times": [0.0, 1.0, 2.0]}
        entries.append({"id": video, "frames_dir": f"{video}/frames", "audio": None, "meta": meta})
    entries.sort(key=lambda entry: str(entry["id"]))
    path = tmp_path / "data" / "manifest_v1.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture
def make(checkpoint: Path, manifest: Path, tmp_path: Path) -> Any:
    """Make the spec of a run, with settings laid over small ones."""

    def make(name: str = "run", **settings: Any) -> RunSpec:
        small: dict[str, Any] = {
            "model_name": str(checkpoint),
            "manifest_path": str(manifest),
            "output_dir": str(tmp_path / "runs"),
            "split": {"validation": 0.25},
            "batch_size": 4,
            "learning_rate": 1e-3,
            "max_steps": 6,
            "eval_steps": 3,
            "checkpoint_steps": 2,
            "num_samples": 1,
            "num_workers": 0,
            "allow_cpu": True,
            "min_gpus": 0,
        }
        run = Run(**(small | settings))
        return configured.spec_on_manifest(name, run, Layout(tmp_path / "state"))

    return make


def write_run(made: RunSpec, processes: int = 1, device: str = "cpu") -> Path:
    """What `encode` and `launch` leave for the processes, without starting them."""
    folder = made.folder
    folder.path.mkdir(parents=True)
    manifest = Path(made.settings.manifest_path or "")
    if made.settings.encoded_ahead:
        encode.run(made, manifest, granted_gpus=0, threads=1)
    folder.manifest.write_bytes(manifest.read_bytes())
    deepspeed = None
    if made.settings.use_deepspeed:
        values = deepspeed_config.read(made.settings)
        deepspeed = deepspeed_config.filled(values, made.settings, processes)
    LaunchedRun.of(made, 1, processes, device, deepspeed).write(folder)
    lineage = {"run": made.name, "manifest_sha256": "", "spark_trainer": "", "code": ""}
    write_json(folder.lineage, lineage)
    return folder.path


def train(folder: Path) -> list[dict[str, float]]:
    """Train the run of a folder in this process; returns its metrics."""
    fresh()
    try:
        Trainer.build(setup.prepare(folder)).train()
    finally:
        fresh()
    return metrics(folder)


def metrics(folder: Path) -> list[dict[str, float]]:
    """The metrics without those that depend on the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timed = {"samples_per_s", "tokens_per_s", "data_wait_share", "memory_gb"}
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def digest_again(checkpoint: Path) -> None:
    """Let the digests of a checkpoint say what is in it now."""
    told = read_json(checkpoint / checkpoints.DIGESTS)
    for name in told["files"]:
        path = checkpoint / name
        told["files"][name] = {"size": path.stat().st_size, "sha256": file_digest(path)}
    write_json(checkpoint / checkpoints.DIGESTS, told)


def dropping(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint with dropout, as upstream's BLIP has where it is trained further."""
    return tiny.dropping(checkpoint, folder / "dropping", 0.1)
