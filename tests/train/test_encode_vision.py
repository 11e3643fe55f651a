"""What a frozen vision tower makes of frames, kept: the same training, without a frame or tower."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spark_trainer.runs.spec import RunSpec
from spark_trainer.train import encode, setup
from spark_trainer.train.launch import LaunchError
from spark_trainer.train.loop import Trainer
from tests.families import tiny

from .conftest import fresh, metrics, train, write_run

Make = Callable[..., RunSpec]
TOWERS = {
    "qwen2_vl": "model.visual",
    "qwen2_5_vl": "model.visual",
    "qwen3_vl": "model.visual",
    "internvl": "model.vision_tower",
    "llava": "model.vision_tower",
    "llava_next": "model.vision_tower",
    "llava_onevision": "model.vision_tower",
}
FROZEN = {"finetune": "full", "freeze": ["vision", "projector"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a family's tiny checkpoint, once."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = getattr(tiny, name)(tmp_path_factory.mktemp(name))
        return made[name]

    return of


@pytest.fixture
def asked(make: Make, folder: Callable[[str], Path]) -> Make:
    """Make the spec of a short run of a family."""

    def asked(family: str, name: str = "run", **settings: Any) -> RunSpec:
        short = {
            "model_name": str(folder(family)),
            "finetune": "lora",
            "batch_size": 2,
            "max_steps": 2,
            "eval_steps": 2,
            "checkpoint_steps": 2,
            "num_samples": 0,
        }
        return make(name, **short | settings)

    return asked


@pytest.fixture
def kept(asked: Make) -> Make:
    """Make the spec of such a run that keeps what the tower makes."""
    return lambda family, name="kept", **more: asked(family, name, encode_vision=True, **more)


def encoded(made: RunSpec) -> int:
    """Run the step; returns how many files it wrote."""
    before = len([*made.encoded.rglob("*.safetensors")])
    encode.run(made, Path(made.settings.manifest_path or ""), granted_gpus=0, threads=1)
    return len([*made.encoded.rglob("*.safetensors")]) - before


def blank(made: RunSpec) -> None:
    """Empty every frame on disk; its size and time, by which what is kept is named, stay."""
    for frame in made.data_root.rglob("*.jpg"):
        stat = frame.stat()
        frame.write_bytes(bytes(stat.st_size))
        os.utime(frame, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def without_tower(folder: Path, tower: str) -> list[dict[str, float]]:
    """Train with a tower that can't be called."""
    fresh()
    try:
        start = setup.prepare(folder)
        for module in start.loaded.model.get_submodule(tower).modules():
            module.register_forward_pre_hook(_refuse)
        Trainer.build(start).train()
    finally:
        fresh()
    return metrics(folder)


def _refuse(module: torch.nn.Module, given: Any) -> None:
    raise AssertionError(f"{type(module).__name__} is called")


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, {}) for family in TOWERS),
        ("qwen2_vl", FROZEN | {"packing": True}),
        ("qwen2_vl", {"finetune": "qlora", "mixed_precision": "bf16"}),
        ("llava_onevision", {"clip": {"num_frames": 2, "sampling": "random", "variants": 2}}),
    ],
    ids=str,
)
def test_the_losses_are_those_of_a_tower_in_each_step(
    family: str, settings: dict[str, Any], asked: Make, kept: Make
) -> None:
    """No step opens a frame or calls the tower."""
    frames, ahead = asked(family, **settings), kept(family, **settings)
    assert ahead.run_id == frames.run_id
    expected, folder = train(write_run(frames)), write_run(ahead)
    blank(ahead)
    assert without_tower(folder, TOWERS[family]) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip": {"sampling": "random"}}, r"encode_vision: expected clip\.variants with clip\.sa"),
        ({"clip": {"flip": True}}, r"encode_vision: expected clip\.variants .* clip\.flip"),
        ({"finetune": "full", "from_scratch": True}, "encode_vision: .* with from_scratch"),
        (
            {"model_type": "diffusion", "clip": {"fps": 4}},
            "encode_vision: expected false for diffusion",
        ),
    ],
    ids=str,
)
def test_settings_under_which_nothing_can_be_kept_are_refused(
    wrong: dict[str, Any], message: str, kept: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        kept("qwen2_vl", **wrong)


@pytest.mark.parametrize(
    ("family", "wrong", "message"),
    [
        ("llava", {"finetune": "full"}, "where the model's projector learns"),
        ("llava", {"lora": {"targets": ["q_proj"]}}, "where the model's vision learns"),
        ("blip", {"finetune": "full", "freeze": ["vision"]}, ".*blip.* takes nothing but frames"),
    ],
    ids=str,
)
def test_a_tower_that_learns_or_takes_frames_alone_is_refused(
    family: str, wrong: dict[str, Any], message: str, kept: Make
) -> None:
    with pytest.raises(
        LaunchError, match=rf"encode: train\.encode_vision: expected false.* ?{message}"
    ):
        encoded(kept(family, **wrong))


def test_what_another_run_kept_serves_no_tower_that_learns(kept: Make) -> None:
    """Both hold the tower in float32, so that the files are the same."""
    frozen, learning = kept("llava"), kept("llava", finetune="full")
    assert frozen.encoded == learning.encoded
    assert encoded(frozen) == 12
    with pytest.raises(ValueError, match=r"train\.encode_vision: .* projector learns"):
        train(write_run(learning))


def test_a_tower_with_dropout_is_refused(
    kept: Make, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    dropping = tiny.dropping(folder("internvl"), tmp_path / "dropping", 0.1)
    with pytest.raises(LaunchError, match=r"train\.encode_vision: .* drops out by chance"):
        encoded(kept("internvl", model_name=str(dropping)))


def test_frames_are_shown_once_whatever_is_said_and_learnt(kept: Make, manifest: Path) -> None:
    assert encoded(kept("llava")) == 12
    manifest.write_text(manifest.read_text().replace("beagle", "seal"))
    assert encoded(kept("llava", learning_rate=1e-5, seed=3)) == 0
    assert encoded(kept("llava", clip={"max_side_px": 16})) == 12
    assert encoded(kept("llava", clip={"num_frames": 2})) == 12


def test_another_tower_or_precision_has_a_folder_of_its_own(
    kept: Make, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    before = kept("llava")
    swapped = shutil.copytree(folder("llava"), tmp_path / "swapped")
    weights = load_file(swapped / "model.safetensors")
    name = next(name for name in weights if "vision_tower" in name)
    save_file(weights | {name: weights[name] + 1}, swapped / "model.safetensors", {"format": "pt"})
    others = [
        kept("llava", model_name=str(swapped)),
        kept("llava", mixed_precision="bf16"),
        kept("llava", finetune="qlora"),
        kept("llava", attention="eager"),
    ]
    assert len({made.encoded for made in (before, *others)}) == 5
    assert encoded(before) == encoded(others[0]) == 12


def test_held_out_samples_are_shown_and_told(kept: Make) -> None:
    """Texts are written by the whole model, from the frames."""
    folder = write_run(kept("qwen2_vl", num_samples=1))
    assert train(folder)[-1].keys() >= {"rouge_l"}
