"""Video diffusion through the one loop: what it learns, holds out, shows, saves and refuses."""

import hashlib
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

import av
import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from spark_trainer import families
from spark_trainer.config import Run, Split
from spark_trainer.data.dataset import split_of
from spark_trainer.data.layout import Layout
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.report import learnt
from spark_trainer.runs import configured
from spark_trainer.runs.spec import RunSpec
from spark_trainer.train import data, setup
from spark_trainer.train.launch import LaunchError
from tests import cards
from tests.families import tiny_pipelines

from .conftest import metrics, train, write_run

FAMILIES = ("svd", "animatediff", "wan_animate")
FRAMES = {"svd": 3, "animatediff": 3, "wan_animate": 5}
FPS = 8
CPU = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: getattr(tiny_pipelines, name)(tmp_path_factory.mktemp(name)) for name in FAMILIES}


def ids(train: int, held: int) -> list[str]:
    """So many hashes of each part."""
    hashes = (hashlib.sha256(str(i).encode()).hexdigest() for i in range(1000))
    parts: dict[str, list[str]] = {"train": [], "validation": []}
    for one in hashes:
        parts[split_of(one, Split(validation=0.5))].append(one)
    return sorted(parts["train"][:train] + parts["validation"][:held])


def write_video(root: Path, video: str, shape: tuple[int, int], frames: int) -> dict[str, Any]:
    """A manifest line, and its frames: a square that moves over a ground of its own colour."""
    colour = np.frombuffer(bytes.fromhex(video[:6]), np.uint8)
    for name in ("frames", "pose", "face"):
        folder = root / video / name
        folder.mkdir(parents=True)
        for frame in range(frames):
            pixels = np.broadcast_to(colour, (*shape[::-1], 3)).copy()
            pixels[4:12, 2 * frame : 2 * frame + 8] = 255 - colour
            Image.fromarray(pixels).save(folder / f"frame_{frame + 1:06d}.jpg")
    meta = {
        "caption": f"a square over {video[:3]}",
        "frame_times": [i / FPS for i in range(frames)],
        "duration": frames / FPS,
        "fps": 24.0,
        "width": shape[0],
        "height": shape[1],
        "pose_dir": f"{video}/pose",
        "face_dir": f"{video}/face",
    }
    return {"id": video, "frames_dir": f"{video}/frames", "audio": None, "meta": meta}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four videos to train on and two held out, seven frames each."""
    lines = [write_video(tmp_path / "data", video, (32, 32), 7) for video in ids(4, 2)]
    path = tmp_path / "data" / "manifest_v1.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


Make = Callable[..., RunSpec]


@pytest.fixture
def make(folders: dict[str, Path], manifest: Path, tmp_path: Path) -> Make:
    def make(name: str, run: str = "run", **settings: Any) -> RunSpec:
        clip = {"num_frames": FRAMES[name], "fps": FPS, "sizes": [[32, 32]]}
        small: dict[str, Any] = {
            "model_name": str(folders[name]),
            "model_type": "diffusion",
            "manifest_path": str(manifest),
            "output_dir": str(tmp_path / "runs"),
            "split": {"validation": 0.5},
            "clip": clip | settings.pop("clip", {}),
            "batch_size": 4,
            "learning_rate": 2e-3,
            "max_steps": 4,
            "eval_steps": 4,
            "checkpoint_steps": 2,
            "num_samples": 0,
            "num_sampling_steps": 2,
            "num_workers": 0,
            "allow_cpu": True,
            "min_gpus": 0,
        }
        made = Run(**(small | settings))
        return configured.spec_on_manifest(run, made, Layout(tmp_path / "state"))

    return make


def held_out(curve: list[dict[str, float]]) -> dict[int, float]:
    return {int(line["step"]): line["held_out_loss"] for line in curve if "held_out_loss" in line}


def test_a_pipelines_own_size_is_what_upstream_makes_unasked(folders: dict[str, Path]) -> None:
    own = {
        name: families.find(str(folder)).completed(Run(model_name=str(folder))).clip.sizes[0]
        for name, folder in folders.items()
    }
    pipe = diffusers.AnimateDiffPipeline.from_pretrained(folders["animatediff"])
    [frames] = pipe("a dog", num_frames=2, num_inference_steps=1).frames
    assert own["animatediff"] == frames[0].size
    # As the models were trained, and as the defaults of upstream's calls are.
    assert (own["svd"], own["wan_animate"]) == ((1024, 576), (1280, 720))


@pytest.mark.parametrize("encode", ["ahead", "each_step"])
def test_without_sizes_clips_have_the_checkpoints_own(
    encode: str, make: Make, folders: dict[str, Path]
) -> None:
    folder = str(folders["animatediff"])
    [size] = families.find(folder).completed(Run(model_name=folder)).clip.sizes
    curves = [
        train(write_run(make("animatediff", run, clip={"sizes": sizes}, encode=encode)))
        for run, sizes in (("own", []), ("named", [list(size)]))
    ]
    assert curves[0] == curves[1]
    assert len(curves[0]) > 3


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((folder / "checkpoints").iterdir())[-1] / "trainable.safetensors")


def base(folder: Path) -> Path:
    return Path(json.loads((folder / "run.json").read_text())["settings"]["model_name"])


def use(folder: Path) -> Any:
    """The pipeline that the card's own lines make, run beside `final/`."""
    head = cards.head(folder / "final", base(folder))
    assert head["library_name"] == "diffusers"
    pipe = cards.loaded(folder / "final", base(folder))["pipe"]
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", FAMILIES)
def test_it_learns_shows_and_leaves_what_upstream_loads(name: str, make: Make) -> None:
    folder = write_run(make(name, max_steps=12, eval_steps=12, num_samples=1, ema_decay=0.5))
    losses = held_out(train(folder))
    assert losses[12] < losses[0]
    videos = sorted((folder / "samples").glob("step_*/*.mp4"))
    assert [path.parent.name for path in videos] == ["step_00000000", "step_00000012"]
    with av.open(str(videos[0])) as container:
        shown = list(container.decode(video=0))
        assert container.streams.video[0].average_rate == FPS
    assert len(shown) == FRAMES[name]
    with Image.open(videos[1].parent / "sheet.png") as sheet:
        assert sheet.size == (32 * FRAMES[name], 64)
    [listed] = json.loads(videos[1].parent.with_suffix(".json").read_text())
    assert (folder / "samples" / listed["file"]) == videos[1]
    runs = learnt.finished({"default": folder / "trained.json"})
    told = learnt.shown(runs, learnt.samples(runs), {})
    assert any(str(videos[1]) in line.text for line in told)
    pipe = use(folder)
    family = families.find(str(base(folder)))
    again = setup.prepare(folder)
    ours = again.loaded.model
    trained = getattr(pipe, family.network)
    now = trained.state_dict()
    moved = {n for n, v in ours.state_dict().items() if not now[n].equal(v)}
    learns = {n for n, p in ours.named_parameters() if p.requires_grad}
    assert moved <= learns
    assert len(moved) > 0.5 * len(learns)
    clip = again.validation.samples[0]
    noise = torch.Generator().manual_seed(0)
    frames = family.sample(Loaded(trained, pipe), trained, clip, (32, 32), 1, noise)
    assert len(frames) == FRAMES[name]
    assert weights(folder).keys() >= learns


@pytest.mark.parametrize("name", FAMILIES)
def test_one_large_batch_is_four_small_ones(name: str, make: Make) -> None:
    whole = train(write_run(make(name, "whole", max_steps=2)))
    small = {"batch_size": 1, "gradient_accumulation_steps": 4, "max_steps": 2}
    parts = train(write_run(make(name, "parts", **small)))
    for one, other in zip(whole, parts, strict=True):
        assert all(other[key] == pytest.approx(one[key], rel=1e-3, abs=1e-7) for key in one)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_held_out_is_the_same_for_every_seed(name: str, make: Make) -> None:
    first = [
        held_out(train(write_run(make(name, f"seed{seed}", seed=seed, max_steps=1, **more))))[0]
        for seed, more in ((0, {}), (1, {"batch_size": 1, "guidance_dropout": 0.5}))
    ]
    assert first[1] == pytest.approx(first[0], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("svd", "merged"),
        ("animatediff", "merged"),
        ("animatediff", "adapter"),
        ("wan_animate", "merged"),
        ("wan_animate", "adapter"),
    ],
)
def test_adapters_over_a_base_in_bf16(name: str, save: str, make: Make) -> None:
    keys = {"finetune": "lora", "lora": {"rank": 2}, "save": save, "mixed_precision": "bf16"}
    keys |= {"gradient_checkpointing": True, "max_steps": 1, "learning_rate": 0.05, "batch_size": 2}
    folder = write_run(make(name, **keys))
    train(folder)
    held = weights(folder)
    assert {v.dtype for n, v in held.items() if "lora_" in n} == {torch.float32}
    total = sum(p.numel() for p in setup.prepare(folder).loaded.model.parameters())
    assert sum(v.numel() for n, v in held.items() if "lora_" in n) < total / 4
    pipe = use(folder)
    family = families.find(str(base(folder)))
    network = getattr(pipe, family.network)  # type: ignore[attr-defined]
    assert any("lora_" in n for n, _ in network.named_parameters()) == (save == "adapter")
    if save == "merged":
        before = family.load(str(base(folder)), LoadOptions()).model.state_dict()
        now = network.state_dict()
        assert any(not torch.allclose(now[n].float(), v, atol=0.02) for n, v in before.items())


def test_bf16_holds_only_what_learns_in_float32(make: Make) -> None:
    exact = held_out(train(write_run(make("wan_animate", "exact"))))
    made = make("wan_animate", "close", mixed_precision="bf16")
    close = held_out(train(write_run(made)))
    assert close[4] == pytest.approx(exact[4], rel=0.03)
    model = setup.prepare(made.folder.path).loaded.model
    wide = {n for n, p in model.named_parameters() if p.dtype == torch.float32}
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert learns <= wide
    # Upstream itself keeps norms and the embedding of time in float32.
    assert sum("attn" in n and n.endswith("weight") and "norm" not in n for n in frozen - wide) > 10


@pytest.mark.parametrize("when", ["ahead", "each_step"])
def test_shapes_never_share_a_batch(when: str, make: Make, manifest: Path, tmp_path: Path) -> None:
    """Long clips of high videos, short ones of wide videos."""
    others = sorted(set(ids(12, 0)) - set(ids(4, 2)))
    wide = [write_video(tmp_path / "data", video, (64, 32), 4) for video in others]
    with open(manifest, "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in wide)
    chosen = {"sizes": [[32, 32], [48, 24]], "num_frames": [3, 6]}
    made = make(
        "animatediff", clip=chosen, batch_size=3, gradient_accumulation_steps=2, encode=when
    )
    start = setup.prepare(write_run(made))
    reader = start.training
    batches = iter(data.sampler(reader.samples, start.run, start.accelerator, 0))
    seen = set()
    for _ in range(12):
        for batch in reader[next(batches)].batches:
            ready = reader.ready(batch, torch.device("cpu"))
            seen.add(tuple(ready.tensors["latents"].shape[-3:]))
    assert seen == {(6, 16, 16), (3, 12, 24)}


def test_a_video_that_is_too_short_is_left_out(make: Make, manifest: Path) -> None:
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    short = next(x for x in lines if split_of(x["id"], Split(validation=0.5)) == "train")
    short["meta"]["frame_times"] = short["meta"]["frame_times"][:2]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = write_run(make("svd", max_steps=1))
    train(folder)
    told = json.loads((folder / "trained.json").read_text())
    assert (told["left_out_videos"], told["training_videos"]) == (1, 3)
    assert "s of frames; the clip that is asked for takes" in (folder / "train.log").read_text()


@pytest.mark.parametrize("when", [pytest.param("ahead", marks=pytest.mark.long), "each_step"])
def test_clips_of_more_frames_than_there_are_places_for_stop(
    when: str, make: Make, manifest: Path, tmp_path: Path
) -> None:
    """The tiny motion modules have eight."""
    lines = [write_video(tmp_path / "long", video, (32, 32), 9) for video in ids(4, 2)]
    for line in lines:
        shutil.rmtree(tmp_path / "data" / line["id"])
        shutil.move(tmp_path / "long" / line["id"], tmp_path / "data")
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    message = r"train\.clip\.num_frames: 9; expected at most 8"
    for count in (9, [8, 9]):
        made = make("animatediff", str(count), clip={"num_frames": count}, encode=when)
        with pytest.raises((ValueError, LaunchError), match=message):
            setup.prepare(write_run(made))
    made = make("animatediff", clip={"num_frames": 8}, encode=when, max_steps=1)
    assert [line["step"] for line in train(write_run(made)) if "loss" in line] == [1]


@pytest.mark.parametrize("when", ["ahead", "each_step"])
@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("animatediff", "<|endoftext|>"),
        pytest.param("wan_animate", "</s>", marks=pytest.mark.long),
    ],
)
def test_a_text_with_a_control_token_is_left_out_and_counted(
    name: str, token: str, when: str, make: Make, manifest: Path
) -> None:
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    bad = next(x for x in lines if split_of(x["id"], Split(validation=0.5)) == "train")
    bad["meta"]["caption"] = f"a square {token}"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    keys = {"max_steps": 1, "max_skipped": 0.5, "bucketing": False, "encode": when}
    folder = write_run(make(name, **keys))
    train(folder)
    assert json.loads((folder / "trained.json").read_text())["skipped_samples"] == 1
    said = f"skipped a sample: video {bad['id']}: its text holds the control token {token!r}"
    assert said in (folder / "train.log").read_text()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("svd", {"clip": {"sizes": [[32, 30]]}}, r"train\.clip\.sizes: 32 × 30; .* by 4"),
        ("animatediff", {"clip": {"sizes": [[31, 32]]}}, r"train\.clip\.sizes: .* by 2"),
        ("wan_animate", {"clip": {"sizes": [[40, 32]]}}, r"train\.clip\.sizes: .* by 16"),
        ("wan_animate", {"clip": {"num_frames": 4}}, r"train\.clip\.num_frames: 4; .* 4k \+ 1"),
        ("wan_animate", {"clip": {"num_frames": [5, 6]}}, r"train\.clip\.num_frames: 6; .*"),
        ("wan_animate", {"clip": {"flip": True}}, r"train\.clip\.flip: expected false"),
        (
            "wan_animate",
            {"clip": {"source": "video"}},
            r"max_left_out: .*expected clip\.source: frames",
        ),
        ("svd", {"finetune": "lora", "save": "adapter"}, r"train\.save: .* expected merged"),
        ("svd", {"model_type": "vision_language"}, r"train\.model_type: .*; expected diffusion"),
        ("svd", {"freeze": ["ears"]}, r"train\.freeze: .* expected some of: temporal, spatial"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_stops_before_any_work(
    name: str, settings: dict[str, Any], message: str, make: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        setup.prepare(write_run(make(name, encode="each_step", **settings)))


def test_other_checkpoints_are_refused(make: Make, checkpoint: Path, tmp_path: Path) -> None:
    made = make("svd", model_name=str(checkpoint), encode="each_step")
    with pytest.raises(ValueError, match=r"train\.model_type: .*; expected vision_language"):
        setup.prepare(write_run(made))
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    known = "AnimateDiffPipeline.*StableVideoDiffusionPipeline.*WanAnimatePipeline"
    with pytest.raises(ValueError, match=f"'StableDiffusionPipeline' checkpoint; .*{known}"):
        families.find(str(other))


def test_without_skeletons_wan_has_nothing_to_learn(make: Make, manifest: Path) -> None:
    manifest.write_text(manifest.read_text().replace('"pose_dir"', '"no_dir"'))
    with pytest.raises(ValueError, match=r"train\.max_left_out: .*without pose: pose.enabled"):
        setup.prepare(write_run(make("wan_animate")))


@pytest.mark.long
def test_a_killed_run_goes_on_bit_by_bit(make: Make) -> None:
    keys = {"max_steps": 16, "num_workers": 1, "num_samples": 1, "ema_decay": 0.9}
    calm = train(write_run(make("svd", "calm", **keys)))
    folder = write_run(make("svd", "killed", **keys))
    command = [sys.executable, "-m", "spark_trainer.train.process", str(folder)]
    environment = os.environ | CPU
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    while process.poll() is None and not (folder / "checkpoints/step_00000006").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "trained.json").exists()
    subprocess.run(command, check=True, env=environment)
    assert metrics(folder) == calm


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_four_bits_need_a_gpu(make: Make) -> None:
    with pytest.raises(ValueError, match=r"train\.finetune: qlora of a pipeline needs a GPU"):
        setup.prepare(write_run(make("wan_animate", finetune="qlora")))
