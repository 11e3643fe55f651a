"""Captions of whole videos, from frames chosen as the configuration says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from spark_trainer import config, steps
from spark_trainer.config import Captioning, ConfigError
from spark_trainer.data import models
from spark_trainer.data.files import tree_digest
from spark_trainer.data.layout import Layout, Video
from spark_trainer.errors import MachineError
from spark_trainer.steps import caption
from tests.families import tiny

Build = Callable[..., "Built"]  # noqa: F821  # tests/steps/conftest.py
TAGS = "caption/imagenet-tags"


def captions(**keys: object) -> dict[str, object]:
    """The section of the offline tagger."""
    return {"captioner_backend": "imagenet-tags", **keys}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2-VL that sees videos."""
    return tiny.qwen2_5_vl(tmp_path_factory.mktemp("qwen"))


def test_captions_say_what_is_seen_and_why_there_is_none(
    build: Build, videos: Path, clips: Path
) -> None:
    for clip in ("dog", "title", "broken"):
        shutil.copy(clips / f"{clip}.mp4", videos)
    built = build("frames", TAGS, caption=captions(batch_size=1))
    assert "Samoyed" in built.record("dog.mp4", TAGS)["caption"]
    assert built.record("dog.mp4", TAGS)["backend"] == "imagenet-tags"
    assert built.record("title.mp4", TAGS)["caption"] == "no tag"
    broken = built.record("broken.mp4", TAGS)
    assert (broken["status"], broken["caption"]) == ("none", None)
    assert broken["why"] == built.record("broken.mp4", "frames")["reason"]


@pytest.mark.parametrize(
    ("keys", "numbers"),
    [
        ({"num_frames": 1}, [4]),
        ({"num_frames": 2}, [2, 6]),
        ({"num_frames": 9}, range(1, 8)),
        ({"num_frames": 3, "choose": "ends"}, [1, 4, 7]),
        ({"num_frames": 1, "choose": "ends"}, [4]),
        ({"num_frames": 2, "choose": "start"}, [1, 2]),
    ],
)
def test_frames_are_chosen_as_configured(
    keys: dict[str, object], numbers: list[int], tmp_path: Path
) -> None:
    layout, video = Layout(tmp_path), Video("ab" * 32, "title")
    times = [0.5 * place for place in range(7)]
    settings = Captioning(captioner_backend="imagenet-tags", **keys)
    shown = caption.choose(layout, video, times, settings)
    assert [frame.name for frame in shown.frames] == [f"frame_{n:06d}.jpg" for n in numbers]
    assert shown.times == tuple(times[number - 1] for number in numbers)


def test_a_record_tells_where_its_caption_comes_from(
    build: Build, videos: Path, clips: Path, checkpoint: Path
) -> None:
    shutil.copy(clips / "title.mp4", videos)
    section = {
        "captioner_backend": "qwen2-vl",
        "model_name": str(checkpoint),
        "prompt": "What is written?",
        "num_frames": 2,
        "max_new_tokens": 5,
        "repetition_penalty": 1.5,
        "device": "cpu",
    }
    record = build("frames", "caption/qwen2-vl", caption=section).record(
        "title.mp4", "caption/qwen2-vl"
    )
    assert record["status"] == "ok"
    assert record["model"] == str(checkpoint)
    assert record["revision"] == tree_digest(checkpoint)
    assert record["prompt"] == "What is written?"
    assert record["decoding"] == {
        "max_new_tokens": 5,
        "num_beams": 1,
        "repetition_penalty": 1.5,
        "no_repeat_ngram_size": 0,
    }
    assert record["frames"] == ["frame_000002.jpg", "frame_000006.jpg"]
    assert (record["device"], record["dtype"]) == ("cpu", "float32")
    assert {"torch", "transformers"} <= set(record["packages"])
    assert record["seconds"] > 0
    assert record["made"].endswith("Z")


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_frame_that_is_gone_or_no_picture_any_more_is_made_again(
    damage: str, build: Build, videos: Path, clips: Path
) -> None:
    for clip in ("dog", "title"):
        shutil.copy(clips / f"{clip}.mp4", videos)
    built = build("frames")
    frame = built.frames("title.mp4")[3]
    whole = frame.read_bytes()
    if damage == "cut":
        frame.write_bytes(whole[:20])
    else:
        frame.unlink()
    settings = captions(num_frames=1, num_workers=0)
    with pytest.raises(MachineError):
        build(TAGS, caption=settings)
    record = built.record("title.mp4", TAGS)
    assert (record["status"], record["caption"]) == ("failed", None)
    assert frame.name in record["reason"]
    assert "Samoyed" in built.record("dog.mp4", TAGS)["caption"]
    again = build("frames", TAGS, caption=settings).record("title.mp4", TAGS)
    assert again["caption"] == "no tag"
    assert frame.read_bytes() == whole


def test_without_a_gpu_the_configuration_must_say_that_the_cpu_is_fine(
    build: Build, videos: Path, clips: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    shutil.copy(clips / "title.mp4", videos)
    section = {"captioner_backend": "qwen2-vl", "model_name": str(checkpoint), "num_frames": 1}
    with pytest.raises(ConfigError, match=r"caption\.device: cuda, but no GPU: there is none here"):
        build("frames", "caption/qwen2-vl", caption=section)
    section |= {"device": "auto", "max_new_tokens": 2}
    built = build("caption/qwen2-vl", caption=section)
    assert built.record("title.mp4", "caption/qwen2-vl")["device"] == "cpu"


def settings_of(folder: Path, name: str = "qwen2-vl") -> dict[str, object]:
    """A configuration with one captioner."""
    return {"caption": {"captioner_backend": name, "model_name": str(folder)}}


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("qwen2-vl", "config.json", "lacks config.json"),
        ("qwen2-vl", "model.safetensors", "lacks model.safetensors"),
        ("blip", None, "is a 'qwen2_5_vl' checkpoint; expected blip"),
    ],
)
def test_a_checkpoint_that_cannot_serve_is_refused_before_any_work(
    name: str, wrong: str | None, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    if wrong:
        (folder / wrong).unlink()
    chosen = config.load(settings_of(folder, name) | {"output_dir": str(tmp_path / "out")})
    with pytest.raises(ConfigError, match=message) as stop:
        steps.fingerprints(chosen)
    assert str(stop.value).startswith(f"caption.model_name ({name}): {folder}")


def test_a_part_of_the_weights_that_is_missing_is_named(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    parts = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(parts), encoding="utf-8")
    (folder / "model-1.safetensors").touch()
    with pytest.raises(ConfigError, match=r"^here: .* lacks model-2\.safetensors$"):
        models.check(str(folder), ("qwen2_5_vl",), "here")


def test_a_folder_that_is_not_there_is_no_hub_id() -> None:
    with pytest.raises(ConfigError, match="no such folder: models/mine/qwen"):
        models.check("models/mine/qwen", ("qwen2_vl",), "here")
    models.check("Qwen/Qwen2-VL-7B-Instruct", ("qwen2_vl",), "here")


def test_a_frame_that_the_processor_refuses_costs_its_own_video(
    build: Build, videos: Path, clips: Path, checkpoint: Path
) -> None:
    """Qwen takes no picture more than 200 times as high as wide; sizes may differ in a video."""
    for clip in ("dog", "title", "cup"):
        shutil.copy(clips / f"{clip}.mp4", videos)
    built = build("frames")
    for frame in built.frames("title.mp4"):
        Image.new("RGB", (3, 640)).save(frame)
    Image.new("RGB", (90, 160)).save(built.frames("cup.mp4")[0])
    keys = {"captioner_backend": "qwen2-vl", "model_name": str(checkpoint), "choose": "ends"}
    keys |= {"num_frames": 2, "max_new_tokens": 3, "device": "cpu", "batch_size": 3}
    built = build("caption/qwen2-vl", caption=keys)
    refused = built.record("title.mp4", "caption/qwen2-vl")
    assert (refused["status"], refused["caption"]) == ("none", None)
    assert refused["why"].startswith("unexpected ValueError: absolute aspect ratio must be smaller")
    for name in ("dog.mp4", "cup.mp4"):
        assert built.record(name, "caption/qwen2-vl")["caption"]


def test_a_template_that_cannot_be_used_stops_at_once(
    build: Build, videos: Path, clips: Path, checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copy(clips / "title.mp4", videos)
    broken = shutil.copytree(checkpoint, tmp_path / "broken")
    (broken / "chat_template.jinja").write_text("{{ messages.nothing.there }}")
    keys = {"captioner_backend": "qwen2-vl", "model_name": str(broken), "device": "cpu"}
    with pytest.raises(ConfigError, match=r"caption\.model_name: .* UndefinedError"):
        build("frames", "caption/qwen2-vl", caption=keys)


def test_a_text_longer_than_anybody_says_is_none(build: Build, videos: Path, clips: Path) -> None:
    shutil.copy(clips / "dog.mp4", videos)
    record = build("frames", TAGS, caption=captions(max_characters=5)).record("dog.mp4", TAGS)
    assert (record["status"], record["caption"]) == ("none", None)
    assert record["why"].endswith("characters; caption.max_characters is 5")
