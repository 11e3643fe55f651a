"""Workspaces that drive the real Snakemake, and small real clips whose hashes are chosen."""

import hashlib
import itertools
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ffmpeg

REPO = Path(__file__).parents[2]
AT_ONCE = ("--latency-wait", "1")  # a file that is missing on this disk does not come later
CUTS = ("bunny", "cup", "dog")  # bunny has no sound
FINISHED = re.compile(r"^Finished jobid: \d+ \(Rule: (\w+)\)", re.MULTILINE)
BASE: dict[str, Any] = {
    "video_dir": "clips",
    "output_dir": "out",
    "index": {"shard_size": 2},
    "transcript": {"enabled": False},
    "caption": {"enabled": False},
}


@dataclass(frozen=True)
class Outcome:
    """What a Snakemake call left: exit status, finished jobs by rule, and its two streams."""

    status: int
    jobs: dict[str, int]
    stdout: str
    stderr: str


@dataclass
class Workspace:
    """A folder with clips and a configuration, and the source tree that builds it."""

    folder: Path
    tree: Path = REPO
    config: dict[str, Any] = field(default_factory=lambda: deepcopy(BASE))
    patience: tuple[str, ...] = AT_ONCE

    @property
    def clips(self) -> Path:
        return self.folder / "clips"

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def command(self, *arguments: str) -> list[str]:
        """The command line of a Snakemake call, after the configuration is written."""
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.config), encoding="utf-8")
        return [
            *(sys.executable, "-m", "snakemake", *arguments),
            *("--snakefile", str(self.tree / "Snakefile"), "--directory", str(self.folder)),
            *("--configfile", str(path)),
            *("--workflow-profile", str(self.tree / "profiles/default")),
            *self.patience,
        ]

    def environment(self) -> dict[str, str]:
        """This process's environment, the package of the workspace's tree, Snakemake's own text."""
        kept = {key: value for key, value in os.environ.items() if "SPARK_TRAINER" not in key}
        return kept | {"PYTHONPATH": str(self.tree), "SPARK_TRAINER_SCREEN": "off"}

    def snakemake(self, *arguments: str) -> Outcome:
        """Call Snakemake, whatever comes of it."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        jobs = dict(Counter(FINISHED.findall(done.stderr)))
        return Outcome(done.returncode, jobs, done.stdout, done.stderr)

    def call(
        self, *words: str, program: tuple[str, ...] = ("-m", "spark_trainer")
    ) -> subprocess.CompletedProcess[str]:
        """Call a command of the package on the configuration, whatever comes of it."""
        self.command()
        return subprocess.run(
            [sys.executable, *program, *words, "--config", "config.yaml"],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def build(self, *targets: str) -> dict[str, int]:
        """Build targets, `manifest` without any; returns the jobs that ran."""
        outcome = self.snakemake(*(targets or ("manifest",)))
        assert outcome.status == 0, outcome.stderr
        return outcome.jobs

    def configure(self, section: str, **values: Any) -> None:
        """Set keys of a section of the configuration."""
        self.config.setdefault(section, {}).update(values)

    def add(self, name: str, content: bytes) -> str:
        """Write a clip; returns the folder that its results will be in."""
        self.clips.mkdir(exist_ok=True)
        (self.clips / f"{name}.mp4").write_bytes(content)
        video_hash = hashlib.sha256(content).hexdigest()
        return f"{video_hash[:2]}/{video_hash}"

    def place(self, name: str) -> str:
        """The folder of the results of the clip called `name`."""
        video_hash = hashlib.sha256((self.clips / f"{name}.mp4").read_bytes()).hexdigest()
        return f"{video_hash[:2]}/{video_hash}"

    def copy(self, folder: Path, tree: Path | None = None) -> "Workspace":
        """The same state, file times included, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        return Workspace(folder, tree or self.tree, deepcopy(self.config))

    def manifest(self) -> dict[str, Any]:
        """The manifest's entries by video folder."""
        with open(self.output / "manifest_v1.jsonl", encoding="utf-8") as file:
            return {f"{e['id'][:2]}/{e['id']}": e for e in map(json.loads, file)}

    def digests(self, pattern: str = "") -> dict[str, str]:
        """Path -> digest of everything that users see below `output_dir`, stray files included."""
        files = (path for path in self.output.rglob("*") if path.is_file())
        names = {path.relative_to(self.output).as_posix(): path for path in files}
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in sorted(names.items())
            if not name.startswith(".spark/") and re.search(pattern, name)
        }


@dataclass(frozen=True)
class Clips:
    """Two seconds of some of the demo's clips."""

    folder: Path

    def content(self, name: str, bits: str) -> bytes:
        """A clip with a `free` box at its end that makes its SHA-256 start with these bits."""
        media = (self.folder / f"{name}.mp4").read_bytes()
        for number in itertools.count():
            padded = media + struct.pack(">I4sI", 12, b"free", number)
            if f"{int(hashlib.sha256(padded).hexdigest(), 16):0256b}".startswith(bits):
                return padded
        raise AssertionError("unreachable")


def cut(folder: Path, names: Iterable[str] = CUTS, width_px: int = 160) -> Clips:
    """Cut the demo's clips into a folder."""
    for name in names:
        source, target = REPO / f"config/demo/clips/{name}.mp4", folder / f"{name}.mp4"
        clip = ffmpeg.read(source)
        shown, heard = clip.video.filter("scale", width_px, -2), clip["a?"]  # sound if there is any
        ffmpeg.write(shown.output(heard, str(target), t=2, vcodec="mpeg4", acodec="aac"))
    return Clips(folder)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return cut(tmp_path_factory.mktemp("cuts"))


@pytest.fixture
def fresh(tmp_path: Path, clips: Clips) -> Workspace:
    return three(tmp_path, clips)


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> tuple[Workspace, Outcome]:
    """The first build of the three clips. Tests read it; those that change it use `built`."""
    workspace = three(tmp_path_factory.mktemp("first"), clips)
    outcome = workspace.snakemake("manifest")
    assert outcome.status == 0, outcome.stderr
    return workspace, outcome


def source_tree(folder: Path) -> Path:
    """A copy of the workflow's source that a test may edit."""
    for name in ("spark_trainer", "rules", "profiles", "envs"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "Snakefile", folder)
    return folder


@dataclass(frozen=True)
class Trained:
    """What the stand-in for the training loop noted: a run's devices, and from when to when."""

    devices: tuple[str, ...]
    processes: int
    begin: float
    end: float


def without_training(folder: Path) -> Path:
    """Copy the source with a training process that only notes what it was given.

    Nor is the memory of a network computed that nobody makes.
    """
    tree = source_tree(folder)
    shutil.copy(Path(__file__).with_name("stand_in.py"), tree / "spark_trainer/train/process.py")
    with open(tree / "spark_trainer/train/memory_check.py", "a", encoding="utf-8") as file:
        file.write("\n\ndef before_loading(*_: object) -> None:\n    pass\n")
    return tree


def trained(workspace: Workspace) -> dict[str, Trained]:
    """Run -> what its processes noted."""
    found = {}
    for folder in workspace.folder.glob("runs/*-????????"):
        seen = [json.loads(path.read_text()) for path in folder.glob("seen.*.json")]
        (devices,) = {tuple(one["devices"]) for one in seen}
        times = [one["begin"] for one in seen], [one["end"] for one in seen]
        found[folder.name[:-9]] = Trained(devices, len(seen), max(times[0]), min(times[1]))
    return found


@pytest.fixture
def built(tmp_path: Path, first: tuple[Workspace, Outcome]) -> Workspace:
    """A copy of the first build."""
    return first[0].copy(tmp_path)


@pytest.fixture(scope="session")
def before(first: tuple[Workspace, Outcome]) -> dict[str, str]:
    """The bytes of the first build."""
    return first[0].digests()


def three(folder: Path, clips: Clips) -> Workspace:
    """Three clips in two shards, nothing built."""
    workspace = Workspace(folder)
    for name, bits in (("dog", "000"), ("cup", "010"), ("bunny", "100")):
        workspace.add(name, clips.content(name, bits))
    return workspace
