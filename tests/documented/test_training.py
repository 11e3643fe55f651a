"""The training command of docs/training.md, as it stands, on what `preprocess` leaves."""

import json
import math
from pathlib import Path

import pytest
import yaml
from PIL import Image

from spark_trainer.config import Run
from spark_trainer.system import gpu
from tests.families import tiny

from .clone import Clone
from .pages import ROOT, commands

no_gpu = pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
FRAMES = 3  # of each video


def write_manifest(folder: Path, videos: int) -> None:
    """Write what `preprocess` leaves of some videos."""
    lines = []
    for number in range(videos):
        name = f"{number:064x}"
        (folder / name).mkdir(parents=True)
        for frame in range(1, FRAMES + 1):
            colour = (number * 7 % 256, frame * 50, 90)
            Image.new("RGB", (32, 32), colour).save(folder / name / f"frame_{frame:06d}.jpg")
        times = [float(second) for second in range(FRAMES)]
        meta = {"caption": f"number {number}", "frame_times": times}
        lines.append({"id": name, "frames_dir": name, "audio": None, "meta": meta})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "manifest_v1.jsonl").write_text(text)


@no_gpu
def test_it_trains_the_model_that_it_names(tmp_path: Path) -> None:
    """From its weights, for its epochs; what the demo says of speech is taken back."""
    clone = Clone.of(tmp_path)
    [line] = [line for line in commands() if line.startswith("python") and "--model-name" in line]
    words = line.split()
    start = clone.stand_in(words[words.index("--model-name") + 1], tiny.blip)
    write_manifest(clone.folder / "data/processed", 20)
    done = clone.type(line)
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())["train"]
    taken_back = {
        **dict.fromkeys(("asr", "split", "freeze", "warmup_steps"), "--model-type"),
        "max_steps": "--num-epochs",
        "global_batch_size": "--batch-size",
    }
    for key, flag in taken_back.items():
        value = "" if isinstance(demo[key], dict) else f": {demo[key]}"
        said = f"train.{key}{value} is taken back by {flag}".replace("['encoder']", "('encoder',)")
        assert said in done.stderr
        [log] = clone.folder.glob("runs/logs/*/spark_trainer.log")
        assert said in log.read_text()
    run = clone.trained()
    assert not run.settings["from_scratch"]
    assert run.settings["model_name"] == "Salesforce/blip-image-captioning-base"
    assert (run.settings["batch_size"], run.settings["gpus"]) == (8, 1)
    assert run.settings["learning_rate"] == Run().learning_rate
    samples = FRAMES * len(run.videos)  # a frame is a sample
    assert len(run.updates) == math.ceil(3 * samples / 8)  # three epochs, eight samples an update
    run.learnt(start, ".*")
