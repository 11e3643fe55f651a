"""A caption job that is killed and run again: nothing done twice, and the same in the end."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spark_trainer import config, steps
from spark_trainer.data import index
from spark_trainer.data.files import read_json, write_json
from spark_trainer.data.layout import Shard, Video, frame_name
from spark_trainer.graph.videos import VideoGraph
from spark_trainer.steps import frames
from tests.conftest import ROOT
from tests.families import tiny

STEP = "caption/qwen2-vl"
VIDEOS, FRAMES, BATCH, WORKERS = 60, 4, 4, 2
ENOUGH = 8  # records after which the job is killed
TICK_NS = 20_000_000  # by which a file's time may be behind the clock
GONE_SECONDS = 4.0  # within which a killed job's processes have ended; PyTorch's own look takes 5


@dataclass(frozen=True)
class Project:
    """One shard of made frames, and the commands that rules run on it."""

    config: config.Config
    index: index.Index

    @property
    def shard(self) -> Shard:
        [shard] = self.index.shards
        return shard

    @property
    def graph(self) -> VideoGraph:
        return VideoGraph(self.config, self.index)

    def marker(self, step: str) -> Path:
        """What the step's job leaves last."""
        return self.graph.marker(step, self.shard)

    def start(self, step: str) -> subprocess.Popen[bytes]:
        """Start the job of a step over the shard, in a process group of its own."""
        layout, marker = self.index.layout, self.marker(step)
        path = self.graph.settings(step)
        command = [sys.executable, "-m", "spark_trainer"]
        command += ["part"] if step == "manifest" else ["step", "--threads", "1", "--gpus", "0"]
        command += ["--settings", str(path), "--shard", str(layout.shard(self.shard.name))]
        command += ["--marker", str(marker), "--log", str(layout.root.parent / "job.log")]
        kept = {key: value for key, value in os.environ.items() if "SPARK_TRAINER" not in key}
        return subprocess.Popen(
            command,
            cwd=layout.root.parent,
            env=kept | {"PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    def run(self, step: str) -> str:
        """Run the job to its end; returns what its marker says."""
        assert self.start(step).wait() == 0
        return self.marker(step).read_text(encoding="utf-8")

    def part(self) -> str:
        """The shard's lines of the manifest, after the captions were selected."""
        self.run("select")
        return self.run("manifest")

    def records(self) -> dict[Video, Path]:
        """The captions that are there, in the shard's order."""
        paths = {video: self.index.layout.record(video, STEP) for video in self.shard.videos}
        return {video: path for video, path in paths.items() if path.exists()}

    def captions(self) -> dict[str, Any]:
        """What was said, by video."""
        return {video.hash: read_json(path)["caption"] for video, path in self.records().items()}


def project(folder: Path, checkpoint: Path) -> Project:
    """Videos that nothing decodes, and what the step before would have left of each."""
    (folder / "videos").mkdir(parents=True)
    for number in range(VIDEOS):
        (folder / f"videos/{number}.mp4").write_text(f"video {number}\n")
    off = {"enabled": False}
    section = {
        "captioner_backend": "qwen2-vl",
        "model_name": str(checkpoint),
        "num_frames": FRAMES,
        "max_new_tokens": 48,
        "device": "cpu",
        "batch_size": BATCH,
        "num_workers": WORKERS,
    }
    places = {"video_dir": str(folder / "videos"), "output_dir": str(folder / "out")}
    chosen = config.load(places | {"audio": off, "transcript": off, "caption": section})
    made = Project(chosen, index.scan(chosen))
    noise = np.random.default_rng(0)
    record = {
        "step": "frames",
        "version": steps.load("frames").VERSION,
        "fingerprint": steps.fingerprint(chosen, "frames"),
        "status": "ok",
        "times": list(map(float, range(FRAMES))),
        "duration": float(FRAMES),
        "fps": 25.0,
        "width": 64,
        "height": 64,
        "codec": "h264",
    }
    for video in made.shard.videos:
        folder = frames.folder(made.index.layout, video)
        folder.mkdir(parents=True)
        for number in range(1, FRAMES + 1):
            coarse = noise.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((64, 64)).save(folder / frame_name(number))
        write_json(made.index.layout.record(video, "frames"), record | {"video": video.hash})
    return made


def alive(group: int) -> list[int]:
    """Processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, owner = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(owner) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def bytes_and_times(paths: dict[Video, Path]) -> dict[Video, tuple[bytes, int]]:
    """What each file holds and when it was written."""
    return {video: (path.read_bytes(), path.stat().st_mtime_ns) for video, path in paths.items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL: its output is not tied to its input, so it says more than one word."""
    return tiny.qwen2_5_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Project:
    """The captions of a job that nobody disturbed."""
    made = project(tmp_path_factory.mktemp("calm"), checkpoint)
    assert json.loads(made.run(STEP)) == {"current": 0, "ok": VIDEOS}
    return made


@pytest.mark.long
def test_no_batch_is_begun_before_the_last_one_is_written(calm: Project) -> None:
    """So whenever a job is killed, at most one batch is lost."""
    records = list(calm.records().values())
    batches = [records[i : i + BATCH] for i in range(0, VIDEOS, BATCH)]
    written = [[path.stat().st_mtime_ns for path in batch] for batch in batches]
    for before, times, batch in zip(written, written[1:], batches[1:], strict=False):
        model_ns = sum(read_json(path)["seconds"] for path in batch) * 1e9
        assert min(times) - max(before) > model_ns - TICK_NS


@pytest.mark.long
@pytest.mark.parametrize("whole", [True, False], ids=["with its workers", "alone"])
def test_a_killed_job_goes_on_where_it_was(
    whole: bool, calm: Project, checkpoint: Path, tmp_path: Path
) -> None:
    """Alone, as the kernel kills a process when memory runs out."""
    made = project(tmp_path, checkpoint)
    job = made.start(STEP)
    while len(made.records()) < ENOUGH and job.poll() is None:
        time.sleep(0.005)
    assert len(alive(job.pid)) >= 1 + WORKERS
    (os.killpg if whole else os.kill)(job.pid, signal.SIGKILL)
    job.wait()
    deadline = time.monotonic() + GONE_SECONDS
    while alive(job.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(job.pid)
    done = bytes_and_times(made.records())
    assert ENOUGH <= len(done) < VIDEOS
    assert list(done) == list(made.shard.videos[: len(done)])  # batches are in the shard's order
    assert not made.marker(STEP).exists()
    counts = json.loads(made.run(STEP))
    assert counts == {"current": len(done), "ok": VIDEOS - len(done)}
    after = bytes_and_times(made.records())
    assert {video: after[video] for video in done} == done
    assert made.captions() == calm.captions()
    assert len(set(calm.captions().values())) > VIDEOS / 2
    assert made.part() == calm.part()
