"""What the pages say is what happens: their commands as they stand, their YAML, their examples.

Tiny checkpoints stand where a page names one of the hub: in a cache of the hub's own layout, which
is asked without a network.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from spark_trainer import config, gpu
from spark_trainer.config import Config, Run
from spark_trainer.config.dataset import Split
from spark_trainer.data.dataset import part_of
from tests.families import tiny

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "config/examples").glob("*.yaml"))
TREE = ("Snakefile", "rules", "envs", "profiles", "config")
REVISION = "0" * 40
INDENTED = re.compile(r"(?:^ {4}.*\n(?:^\n(?=^ {4}))?)+", re.MULTILINE)
FENCED = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
CPU = {"allow_cpu": True, "min_gpus": 0, "num_workers": 0}
no_gpu = pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")


@dataclass(frozen=True)
class Block:
    """YAML of a page, and where it stands."""

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0].strip()}"


def blocks() -> Iterator[Block]:
    """What the pages show of a configuration: mappings of its own keys or of a run's."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in [*INDENTED.findall(text), *FENCED.findall(text)]:
            for part in re.split(r"\n(?=    (?:text|train|snakemake)\b)", found):
                lines = re.sub(r"^ {4}", "", part, flags=re.MULTILINE)
                if re.match(rf"({'|'.join(KEYS)}):( |\n)", lines) and "expected" not in lines:
                    yield Block(page.name, lines)


KEYS = sorted({*Config.model_fields, *Config.flat_keys, *Run.model_fields})


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_yaml_of_the_pages_is_a_configuration(block: Block) -> None:
    data = yaml.safe_load(block.text)
    if not data.keys() <= {*Config.model_fields, *Config.flat_keys}:
        data = {"train": data}
    if "transcript" in data:
        data.setdefault("audio", {})
    config.load(data)


def test_there_are_pages_to_look_at() -> None:
    assert len(list(blocks())) > 15


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_configuration_and_says_how_to_run_it(path: Path) -> None:
    config.read(path)
    said = f"snakemake train --configfile config/examples/{path.name} --resources gpu=1"
    assert said in path.read_text(encoding="utf-8")


def command(page: str, beginning: str) -> list[str]:
    """The words of a command as a page has it, over several lines if it has."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.strip().startswith(beginning))
    return shlex.split(line, comments=True)


@dataclass(frozen=True)
class Clone:
    """The workflow's files in a folder, where a cache of the hub is at hand and no network."""

    folder: Path

    def stand_in(self, name: str, build: Callable[[Path], Path]) -> Path:
        """Put a tiny checkpoint where a hub id, or a local folder, is looked for."""
        if (here := self.folder / name).parent.is_dir() or name.startswith("models/"):
            return build(here)
        home = self.folder / f"hub/models--{name.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs/main").write_text(REVISION)
        return build(home / "snapshots" / REVISION)

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command of a page; must succeed."""
        kept = {key: value for key, value in os.environ.items() if "SPARK_TRAINER" not in key}
        hub = {"HF_HUB_CACHE": str(self.folder / "hub"), "HF_HUB_OFFLINE": "1"}
        program = {
            "python": [sys.executable],
            "snakemake": [sys.executable, "-m", "snakemake"],
        }[words[0]]
        done = subprocess.run(
            [*program, *words[1:]],
            cwd=self.folder,
            env=kept | hub | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    def trained(self, name: str = "default") -> "Trained":
        """What a run left."""
        (folder,) = self.folder.glob(f"runs/{name}-*/")
        return Trained(folder)


@dataclass(frozen=True)
class Trained:
    """A run folder, read without code of ours."""

    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "run.json").read_text())["settings"])

    @property
    def updates(self) -> list[dict[str, float]]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if "loss" in line]

    def moved(self, start: Path) -> float:
        """How far the weights went at most, if they began at a checkpoint's."""
        ours, theirs = (weights(path) for path in (self.folder / "final", start))
        assert ours.keys() == theirs.keys()
        return max(float((ours[key] - theirs[key]).abs().max()) for key in ours)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint."""
    return {
        key: value.float()
        for path in folder.glob("*.safetensors")
        for key, value in load_file(path).items()
    }


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    for name in TREE:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    return Clone(tmp_path)


def videos_of(run: Trained) -> int:
    """How many videos a run learnt from."""
    lines = (run.folder / "manifest.jsonl").read_text().splitlines()
    split = Split(**run.settings["split"])
    return sum(part_of(json.loads(line)["id"], split) == "train" for line in lines)


def write_manifest(folder: Path, videos: int) -> None:
    """What `preprocess` leaves of some videos, three frames each."""
    from PIL import Image

    lines = []
    for number in range(videos):
        name = f"{number:064x}"
        (folder / name).mkdir(parents=True)
        for frame in (1, 2, 3):
            colour = (number * 7 % 256, frame * 50, 90)
            Image.new("RGB", (32, 32), colour).save(folder / name / f"frame_{frame:06d}.jpg")
        meta = {"caption": f"number {number}", "frame_times": [0.0, 1.0, 2.0]}
        lines.append({"id": name, "frames_dir": name, "audio": None, "meta": meta})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "manifest_v1.jsonl").write_text(text)


@no_gpu
def test_the_training_command_trains_the_model_that_it_names(clone: Clone) -> None:
    """From its weights, for its epochs; what the demo's configuration says else is taken back."""
    words = command("docs/training.md", "python -m spark_trainer train --manifest-path")
    start = clone.stand_in(words[words.index("--model-name") + 1], tiny.blip)
    write_manifest(clone.folder / "data/processed", 20)
    done = clone.run(words)
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())["train"]
    for key, flag in {
        "from_scratch": "--model-name",
        "learning_rate": "--model-name",
        "warmup_steps": "--model-name",
        "max_steps": "--num-epochs",
        "global_batch_size": "--batch-size",
    }.items():
        line = f"train.{key}: {demo[key]} is taken back by {flag}"
        assert line in done.stderr
        [log] = clone.folder.glob("runs/*/spark_trainer.log")
        assert line in log.read_text()
    run = clone.trained()
    assert not run.settings["from_scratch"]
    assert run.settings["model_name"] == "Salesforce/blip-image-captioning-base"
    assert (run.settings["batch_size"], run.settings["gpus"]) == (8, 1)
    assert run.settings["learning_rate"] == Run().learning_rate
    samples = 3 * videos_of(run)  # a frame is a sample
    assert len(run.updates) == -(-3 * samples // 8)  # three epochs, eight samples an update
    assert 0 < run.moved(start) < 0.01  # random weights would be 0.1 away


@no_gpu
@pytest.mark.long
def test_the_examples_train_the_models_that_they_name(clone: Clone) -> None:
    """As they stand, but for the videos and what a CPU needs; one store serves them all."""
    builders = {
        "blip": tiny.blip,
        "blip2": tiny.blip2,
        "internvl": tiny.internvl,
        "qwen2_vl": tiny.qwen2_vl,
        "llava": tiny.llava_onevision,
    }
    (clone.folder / "videos").mkdir()
    for path in (ROOT / "config/demo/clips").glob("*.mp4"):
        shutil.copy(path, clone.folder / "videos")
    for path in EXAMPLES:
        if path.stem not in builders:
            continue  # whole pipelines of diffusion: tests/workflow/test_encode.py
        asked = yaml.safe_load(path.read_text())["train"]
        start = clone.stand_in(asked["model_name"], builders[path.stem])
        here = CPU | {"split": {"validation": 0.3, "seed": 6}, "output_dir": f"runs/{path.stem}"}
        overlay = {"transcript": {"enabled": False}, "train": here}
        extra = [f"{key}={json.dumps(value)}" for key, value in overlay.items()]
        tags = "captioner_backend=imagenet-tags"
        clone.run([*said(path), "--cores", "2", "--config", tags, *extra])
        (folder,) = clone.folder.glob(f"runs/{path.stem}/default-*/")
        run = Trained(folder)
        assert {key: run.settings[key] for key in asked if key not in ("clip", "text")} == {
            key: value for key, value in asked.items() if key not in ("clip", "text")
        }
        frames = 4 if path.stem.startswith("blip") else 1
        expected = -(-asked["num_epochs"] * videos_of(run) * frames // 32)
        assert 1 <= len(run.updates) <= max(expected, 3), path.stem
        if asked.get("save") == "adapter":
            assert (folder / "final/adapter_model.safetensors").is_file()
        else:
            moved = run.moved(start)  # not at all by a warm-up's first update, whose rate is 0
            learnt = any(line["learning_rate"] > 0 for line in run.updates)
            assert moved < 0.05, path.stem
            assert (moved > 0) == learnt, path.stem


def said(path: Path) -> list[str]:
    """The words of an example's own command."""
    line = next(
        line for line in path.read_text().splitlines() if line.startswith("#     snakemake")
    )
    return line.removeprefix("#").split()
