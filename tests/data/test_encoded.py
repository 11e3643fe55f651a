"""What the files of frozen encoders are named by: made again exactly when they must be."""

import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from spark_trainer.data import encoded
from tests.train.test_diffusion import Make, folders, make, manifest
from tests.train.test_encode import CLIPS, edited, run, same_as_each_step

__all__ = ["folders", "make", "manifest"]  # fixtures


def test_text_and_clips_are_kept_apart(make: Make, manifest: Path) -> None:
    """Four clips to learn, two held out, as many texts, and no text."""
    assert run(make("animatediff")) == {"kept": 0, "made": 13, "unusable": 0}
    assert run(make("animatediff")) == {"kept": 13, "made": 0, "unusable": 0}
    edited(manifest, lambda line: line["meta"].update(caption="another square"))
    assert run(make("animatediff")) == {"kept": 12, "made": 1, "unusable": 0}
    same_as_each_step(make, "animatediff", "edited")


def test_a_clip_lies_below_its_video_and_where_earlier_versions_kept_it(
    make: Make, manifest: Path
) -> None:
    made = make("svd")
    assert run(made)["made"] == 6
    paths = [*made.encoded.glob(CLIPS)]
    ids = {json.loads(line)["id"] for line in manifest.read_text().splitlines()}
    assert {path.parent.name for path in paths} == ids
    for path in paths:
        earlier = made.encoded / "clips" / path.name[:2] / path.name
        earlier.parent.mkdir(parents=True, exist_ok=True)
        path.rename(earlier)
    assert run(made) == {"kept": 6, "made": 0, "unusable": 0}
    same_as_each_step(make, "svd", "earlier")


def test_a_run_of_other_weights_takes_the_same(make: Make) -> None:
    made = make("svd", seed=1)
    assert run(made)["made"] == 6
    other = make("svd", seed=2, learning_rate=1e-5, finetune="lora")
    assert other.encode_marker("a") == made.encode_marker("a")
    assert run(other)["made"] == 0


@pytest.mark.parametrize(
    "clip",
    [{"sizes": [[64, 32]]}, {"fps": 4}, {"num_frames": 2}, {"sampling": "random"}],
    ids=str,
)
def test_other_clips_are_encoded(clip: dict[str, Any], make: Make) -> None:
    run(make("svd"))
    made = make("svd", clip=clip)
    assert made.encode_marker("a") != make("svd").encode_marker("a")
    assert run(made)["made"] > 0
    same_as_each_step(make, "svd", "other", clip=clip)


def test_a_second_variant_adds_to_the_first(make: Make) -> None:
    random = {"sampling": "random"}
    assert run(make("svd", clip=random)) == {"kept": 0, "made": 6, "unusable": 0}
    two = run(make("svd", clip=random | {"variants": 2}))
    assert two == {"kept": 6, "made": 4, "unusable": 0}


def test_a_swapped_encoder_encodes_again_and_a_trained_network_does_not(
    make: Make, folders: dict[str, Path], tmp_path: Path
) -> None:
    pipeline = tmp_path / "pipeline"
    shutil.copytree(folders["animatediff"], pipeline)
    before = make("animatediff", model_name=str(pipeline))
    assert run(before)["made"] == 13

    def scale(part: str) -> None:
        path = next((pipeline / part).glob("*.safetensors"))
        weights = {name: 1.1 * value for name, value in load_file(path).items()}
        save_file(weights, path, {"format": "pt"})

    scale("unet")
    assert run(make("animatediff", model_name=str(pipeline)))["made"] == 0
    scale("vae")
    after = make("animatediff", model_name=str(pipeline))
    assert after.encoded != before.encoded
    assert run(after)["made"] == 13
    same_as_each_step(make, "animatediff", "swapped", model_name=str(pipeline))


def test_the_precision_of_the_text_encoder_counts(make: Make) -> None:
    assert make("svd", mixed_precision="bf16").encoded != make("svd").encoded


def test_frames_that_were_replaced_are_encoded_again(make: Make, manifest: Path) -> None:
    """Of a manifest that was given; those that are built here have fingerprints."""
    run(make("svd"))
    first: list[dict[str, Any]] = []
    edited(manifest, first.append)
    frame = manifest.parent / first[0]["frames_dir"] / "frame_000003.jpg"
    Image.new("RGB", (32, 32), "red").save(frame)
    assert run(make("svd")) == {"kept": 5, "made": 1, "unusable": 0}
    same_as_each_step(make, "svd", "replaced")


def test_other_steps_behind_the_frames_are_other_clips(make: Make) -> None:
    """Of the workflow's own data: the video and the steps decide, not the files' times."""
    made = make("svd")
    built = replace(made, step_fingerprints={"frames": "1", "pose": "1"})
    assert run(built)["made"] == 6
    posed = replace(built, step_fingerprints={"frames": "1", "pose": "2"})
    assert run(posed)["made"] == 0  # SVD reads no pose
    extracted = replace(built, step_fingerprints={"frames": "2", "pose": "1"})
    assert run(extracted)["made"] == 6


def test_a_file_that_the_machine_cannot_open_is_not_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    encoded.write(path, {"latents": torch.ones(2)})
    assert encoded.read(path)["latents"].tolist() == [1, 1]
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            encoded.read(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
