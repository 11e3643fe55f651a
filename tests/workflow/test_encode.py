"""From raw video to a trained diffusion model, with what the frozen encoders made in between."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from spark_trainer.config import Split
from spark_trainer.data.dataset import split_of
from tests.families import tiny, tiny_pipelines

from .conftest import Clips, Workspace, without_training

SPEAKER = Path(__file__).parents[1] / "assets/speaker.mp4"
SMALL: dict[str, Any] = {
    "model_type": "diffusion",
    "batch_size": 2,
    "max_steps": 2,
    "eval_steps": 2,
    "num_samples": 1,
    "num_sampling_steps": 2,
    "num_workers": 0,
    "allow_cpu": True,
    "min_gpus": 0,
    "gpus": 0,
}
TEXT = {"answer": "a film of {source_path}"}


def trains(workspace: Workspace, **settings: Any) -> None:
    """Configure a run whose two parts both hold some of the clips."""
    hashes = [workspace.place(path.stem)[3:] for path in workspace.clips.glob("*.mp4")]
    for seed in range(100):
        split = {"validation": 0.5, "seed": seed}
        if {split_of(one, Split(**split)) for one in hashes} == {"train", "validation"}:  # type: ignore[arg-type]
            break
    workspace.configure("train", **SMALL, split=split, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> Workspace:
    """Three clips in two shards, and an AnimateDiff that has seen them."""
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    for name, bits in (("bunny", "0"), ("cup", "00"), ("dog", "1")):
        workspace.add(name, clips.content(name, bits))
    pipeline = tiny_pipelines.animatediff(tmp_path_factory.mktemp("pipeline"))
    clip = {"num_frames": 4, "fps": 4, "source": "video", "sizes": [[32, 32]]}
    trains(workspace, model_name=str(pipeline), clip=clip, text=TEXT)
    made = workspace.build("train")
    assert made["encode_shard"] == 2
    assert made["train_run"] == 1
    return workspace


@pytest.fixture
def workspace(trained: Workspace, tmp_path: Path) -> Workspace:
    """A copy whose further runs begin as any, and train nothing."""
    return trained.copy(tmp_path / "here", without_training(tmp_path / "tree"))


def test_a_trained_model_has_shown_a_film(trained: Workspace) -> None:
    [run] = (trained.folder / "runs").glob("default-*")
    assert len(list(run.glob("samples/step_00000002/*.mp4"))) == 1
    assert (run / "final/motion_adapter").is_dir()
    assert json.loads((run / "trained.json").read_text())["skipped_samples"] == 0


def test_nothing_is_encoded_twice(workspace: Workspace) -> None:
    """Another learning rate trains again; the third clip's new neighbour alone is encoded."""
    workspace.configure("train", learning_rate=1e-4)
    assert "encode_shard" not in workspace.build("train")
    kept = set(workspace.digests(r"\.safetensors$").items())
    source = (workspace.clips / "dog.mp4").read_bytes()
    workspace.add("again", source + struct.pack(">I4s", 8, b"free"))
    made = workspace.build("train")
    assert made["frames_shard"] == made["encode_shard"] == 1
    after = set(workspace.digests(r"\.safetensors$").items())
    assert kept < after
    assert len(after - kept) == 2  # its clip and its text


def test_frozen_towers_see_the_clips_before_training(trained: Workspace, tmp_path: Path) -> None:
    workspace = trained.copy(tmp_path)
    asked = {"model_type": "vision_language", "finetune": "lora", "encode_vision": True}
    workspace.configure("train", **asked, model_name=str(tiny.llava(tmp_path / "llava")))
    planned = workspace.snakemake("train", "-n").stdout
    assert planned.count("rule encode_shard:") == 2
    assert planned.index("rule encode_shard:") < planned.index("rule train_run:")


def test_what_an_earlier_version_encoded_is_taken_over(workspace: Workspace) -> None:
    """It wrote no records: its markers count, and where they are gone its files.

    What was deleted is made again.
    """
    before = workspace.digests("^encoded/")
    records = [*workspace.output.glob("encoded/*/??/*/*.json")]
    assert len(records) == 3
    for path in records:
        path.unlink()
    workspace.configure("train", learning_rate=1e-4)
    assert "encode_shard" not in workspace.build("train")
    _, *deleted = workspace.output.glob("encoded/*/??/*/*.safetensors")
    assert deleted
    for path in (*workspace.output.glob("encoded/*/sealed/*"), *deleted):
        path.unlink()
    workspace.configure("train", learning_rate=1e-5)
    assert workspace.build("train")["encode_shard"] == 2
    after = workspace.digests("^encoded/")
    assert {name: after[name] for name in before if "/sealed/" not in name} == {
        name: digest for name, digest in before.items() if "/sealed/" not in name
    }
    assert after.keys() == before.keys()


def test_a_person_is_found_encoded_and_learnt(tmp_path: Path) -> None:
    """Wan2.2-Animate from raw video; the clip without a person is left out by name."""
    workspace = Workspace(tmp_path)
    for number in range(3):
        workspace.add(
            f"speaker{number}", SPEAKER.read_bytes() + number * struct.pack(">I4s", 8, b"free")
        )
    workspace.configure("pose", enabled=True, frame_rate=8.0)
    clip = {"num_frames": 5, "fps": 8, "source": "video", "sizes": [[32, 32]], "replace": True}
    pipeline = tiny_pipelines.wan_animate(tmp_path / "pipeline")
    trains(workspace, model_name=str(pipeline), clip=clip, text=TEXT)
    made = workspace.build("train")
    assert made["pose_shard"] == made["encode_shard"]
    [run] = (workspace.folder / "runs").glob("default-*")
    told = json.loads((run / "trained.json").read_text())
    assert told["training_videos"] + told["validation_videos"] == 3
    assert told["skipped_samples"] == 0
    assert len(list(run.glob("samples/step_00000002/*.mp4"))) == 1
