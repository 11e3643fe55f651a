"""A run that ends anywhere and goes on gives what it would have given, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from spark_trainer import families
from spark_trainer.data.files import file_digest, read_json
from spark_trainer.runs.folder import RunFolder
from spark_trainer.runs.spec import RunSpec
from spark_trainer.system import gpu
from spark_trainer.train import checkpoints
from tests import sounds
from tests.families import tiny, tiny_pipelines

from .conftest import metrics, train, write_run
from .test_diffusion import FPS, FRAMES, ids, write_video

ROOT = Path(__file__).resolve().parent.parent.parent
UPDATES = 3
RUN = {
    "batch_size": 2,
    "global_batch_size": 4,
    "max_steps": UPDATES,
    "eval_steps": 2,
    "checkpoint_steps": 1,
    "keep_checkpoints": UPDATES,
    "ema_decay": 0.9,
}
FULL: dict[str, Any] = {"num_workers": 0}
LORA = {"finetune": "lora", "lora": {"rank": 2, "dropout": 0.2}, "num_workers": 2}
WRITE = ("blip", "blip2", "blip2_t5", "internvl", "llava", "qwen2_vl")
SPEECH = ("whisper",)
DROPS = ("blip2", "blip2_t5")  # upstream's own dropout is none in the others


@pytest.fixture
def of(make: Any, tmp_path: Path) -> Callable[..., RunSpec]:
    """The spec of a run on a family, with frames that are drawn anew in every epoch."""

    def of(variant: str, **settings: Any) -> RunSpec:
        clip: dict[str, Any] = {"num_frames": FRAMES.get(variant, 2), "sampling": "random"}
        if variant in WRITE:
            checkpoint = getattr(tiny, variant)(tmp_path / variant)
            return make(model_name=str(checkpoint), clip=clip, **RUN, **settings)
        if variant in SPEECH:
            checkpoint = getattr(tiny, variant)(tmp_path / variant)
            path = sounds.write_manifest(tmp_path / "sounds", ids(6, 2))
            masks = {"export": ["hf"], "spec_augment": {"mask_time_prob": 0.1}}
            given = {"model_name": str(checkpoint), "model_type": "asr", "asr": masks}
            split = {"validation": 0.5}
            return make(manifest_path=str(path), split=split, **given, **RUN, **settings)
        checkpoint = getattr(tiny_pipelines, variant)(tmp_path / variant)
        lines = [write_video(tmp_path / "films", one, (32, 32), 7) for one in ids(6, 2)]
        path = tmp_path / "films" / "manifest_v1.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        flips = families.find(str(checkpoint)).flips  # type: ignore[attr-defined]
        given = {
            "model_name": str(checkpoint),
            "model_type": "diffusion",
            "manifest_path": str(path),
            "split": {"validation": 0.5},
            "clip": clip | {"fps": FPS, "sizes": [[32, 32]], "flip": flips, "reference": "random"},
            "num_sampling_steps": 1,
            "guidance_dropout": 0.5,
            "encode": "each_step",
        }
        return make(**given, **RUN, **settings)

    return of


def everything(folder: Path) -> dict[str, Any]:
    """What each checkpoint holds, and `final/`: the digest of every file of tensors."""
    saved = {
        f"{one.name}/{name}": facts
        for one in RunFolder(folder).saved_checkpoints()
        for name, facts in read_json(one / checkpoints.DIGESTS)["files"].items()
    }
    final = (folder / "final").rglob("*.safetensors")
    return saved | {str(path.relative_to(folder)): file_digest(path) for path in final}


@pytest.mark.long
@pytest.mark.parametrize("settings", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("variant", [*WRITE, *FRAMES, *SPEECH])
def test_each_update_is_one_to_go_on_from(
    variant: str, settings: dict[str, Any], of: Callable[..., RunSpec]
) -> None:
    """Upstream's own dropout and the adapters', in one process and with workers."""
    folder = write_run(of(variant, **settings))
    curve, kept = train(folder), everything(folder)
    draws = {facts["sha256"] for name, facts in kept.items() if "/random_" in name}
    drops = settings is LORA or variant in DROPS
    assert len(draws) == (UPDATES if drops else 1)
    calm = folder.rename(folder.with_name("calm"))
    for step in range(1, UPDATES):
        shutil.copytree(calm, folder)
        (folder / "trained.json").unlink()
        shutil.rmtree(folder / "final")
        for later in RunFolder(folder).saved_checkpoints()[step:]:
            shutil.rmtree(later)
        assert train(folder) == curve
        assert everything(folder) == kept
        assert f"resumed at update {step} of" in (folder / "train.log").read_text()
        shutil.rmtree(folder)


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the workflow on a folder of its own."""
    environment = {key: value for key, value in os.environ.items() if "SPARK_TRAINER" not in key}
    command = [sys.executable, "-m", "snakemake", *arguments]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
    return subprocess.Popen(
        [*command, "--cores", "1"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def configure(folder: Path, name: str, settings: dict[str, Any]) -> None:
    """One video to index, and one run on a manifest that is there."""
    off = {"enabled": False}
    value = {"video_dir": "videos", "transcript": off, "caption": off}
    value["train"] = settings | {"output_dir": "runs", "runs": {name: {}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(value))


@pytest.mark.long
@pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
def test_the_same_command_goes_on_bit_by_bit(make: Any, tmp_path: Path) -> None:
    made = make("calm", max_steps=20, eval_steps=5)
    calm = train(write_run(made))
    folder = tmp_path / "project"
    (folder / "videos").mkdir(parents=True)
    shutil.copy(ROOT / "config/demo/clips/dog.mp4", folder / "videos")
    configure(folder, "killed", made.settings.model_dump(mode="json"))
    process = snakemake(folder, "train")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(folder.glob("runs/killed-*/checkpoints/step_*")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    [run] = folder.glob("runs/killed-*")
    assert not (run / "trained.json").exists()
    assert snakemake(folder, "--unlock").wait() == 0
    assert snakemake(folder, "train").wait() == 0
    assert metrics(run) == calm
    assert "resumed" in (run / "train.log").read_text()


@pytest.mark.long
@pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_snakemake_passes_signals_on(number: int, make: Any, tmp_path: Path) -> None:
    """To Snakemake alone, as `kill` or a service manager sends them."""
    keys = {"max_steps": 10**6, "eval_steps": 10**6, "checkpoint_steps": 10**6}
    folder = tmp_path / "project"
    (folder / "videos").mkdir(parents=True)
    shutil.copy(ROOT / "config/demo/clips/dog.mp4", folder / "videos")
    configure(folder, "stopped", make(**keys).settings.model_dump(mode="json"))
    process = snakemake(folder, "train")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not any(
        '"loss"' in path.read_text() for path in folder.glob("runs/stopped-*/metrics.jsonl")
    ):
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait(300) != 0
    [run] = folder.glob("runs/stopped-*")
    [saved] = (run / "checkpoints").iterdir()
    assert f"stopped at update {int(saved.name[5:])} of" in (run / "train.log").read_text()
    assert (run / "train.log").read_text().count("training on") == 1
