"""One sample that nobody foresaw costs itself, with every family that writes."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spark_trainer import families
from spark_trainer.config import Run
from spark_trainer.data import dataset
from spark_trainer.errors import MachineError
from spark_trainer.families.kinds import prompts
from spark_trainer.families.kinds.clips import Clips
from spark_trainer.families.kinds.loading import Loaded, LoadOptions
from spark_trainer.families.kinds.reading import Reader
from spark_trainer.families.kinds.vision_language import Texts
from spark_trainer.families.svd import StableVideoDiffusion
from spark_trainer.train import data
from spark_trainer.train.data import DistributedBatchSampler
from tests.families import tiny

CONTROL = {
    "blip": "[SEP]",
    "blip2": "<image>",
    "blip2_t5": "</s>",
    "internvl": "<IMG_CONTEXT>",
    "llava": "<image>",
    "llava_next": "<image>",
    "llava_onevision": "<video>",
    "qwen2_vl": "<|vision_start|>",
    "qwen2_5_vl": "<|im_end|>",
    "qwen3_vl": "<|video_pad|>",
}


@pytest.fixture(scope="module", params=CONTROL)
def variant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in a folder called like its kind."""
    return getattr(tiny, request.param)(tmp_path_factory.mktemp("tiny") / request.param)


@pytest.fixture
def reader(variant: Path, manifest: Path) -> Callable[..., Reader]:
    """Reads the manifest after a change of its first entry."""

    def make(change: Callable[[dict[str, Any]], object]) -> Reader:
        entries = [json.loads(line) for line in manifest.read_text().splitlines()]
        change(entries[0])
        manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        family = families.find(str(variant))
        run = Run(split={"validation": 0}, clip={"num_frames": 2})
        samples = dataset.read(manifest, manifest.parent, run, family.one_frame)["train"]
        return Texts(samples, family, family.load(str(variant), LoadOptions()), 2048, False)

    return make


def first_of_two(reader: Reader) -> tuple[int, list[str], str]:
    """Samples in the batches of the first video and the next, reasons, and the first's id."""
    family: Any = reader.family
    second = 2 if family.one_frame else 1  # a video's two frames are two samples
    taken = reader[[0, second]]
    count = sum(len(batch.tensors["labels"]) for batch in taken.batches)
    return count, taken.reasons, reader.samples.video(0)


@pytest.mark.parametrize("where", ["answer", "prompt"])
def test_a_control_token_in_a_text_is_never_learnt(
    where: str, variant: Path, reader: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = CONTROL[variant.name]
    made = reader(lambda entry: entry["meta"].update(caption=f"a dog {token} runs"))
    if where == "prompt":
        original = type(made.samples).__getitem__
        monkeypatch.setattr(
            type(made.samples),
            "__getitem__",
            lambda *a: replace(s := original(*a), prompt=s.answer, answer="a dog"),
        )
    count, (reason,), video = first_of_two(made)
    assert count == 1
    assert reason == f"video {video}: its text holds the control token {token!r}"


def test_any_other_text_is_taken(reader: Callable[..., Reader]) -> None:
    made = reader(lambda entry: entry["meta"].update(caption="<b>\0 [1] 🦩 & <|x|> {y}"))
    assert first_of_two(made)[:2] == (2, [])


def test_a_text_of_a_million_characters_is_cut(reader: Callable[..., Reader]) -> None:
    made = reader(lambda entry: entry["meta"].update(caption="dog" * 333_333))
    count, reasons, _ = first_of_two(made)
    assert (count, reasons) == (2, [])


def test_frames_of_two_sizes_make_one_sample(reader: Callable[..., Reader], manifest: Path) -> None:
    def turn(entry: dict[str, Any]) -> None:
        frame = manifest.parent / entry["frames_dir"] / "frame_000003.jpg"
        Image.new("RGB", (32, 64), (200, 0, 0)).save(frame)

    assert first_of_two(reader(turn))[:2] == (2, [])


def test_a_frame_that_the_processor_refuses_is_skipped_and_named(
    variant: Path, reader: Callable[..., Reader], manifest: Path
) -> None:
    def stretch(entry: dict[str, Any]) -> None:
        for number in (1, 2, 3):
            path = manifest.parent / entry["frames_dir"] / f"frame_{number:06d}.jpg"
            Image.new("RGB", (3, 640)).save(path)

    made = reader(stretch)
    count, reasons, video = first_of_two(made)
    if not variant.name.startswith("qwen"):
        assert (count, reasons) == (2, [])
        return
    assert count == 1
    assert reasons[0].startswith(f"video {video}: unexpected ValueError: absolute aspect ratio")


@pytest.fixture
def blip(checkpoint: Path, manifest: Path) -> Texts:
    family: Any = families.find(str(checkpoint))
    samples = dataset.read(manifest, manifest.parent, Run(split={"validation": 0}), True)["train"]
    return Texts(samples, family, family.load(str(checkpoint), LoadOptions()), 64, False)


def test_a_template_that_cannot_be_used_stops_at_once(tmp_path: Path, manifest: Path) -> None:
    folder = tiny.qwen2_vl(tmp_path / "qwen")
    (folder / "chat_template.jinja").write_text("{{ messages.nothing.there }}")
    family: Any = families.find(str(folder))
    samples = dataset.read(manifest, manifest.parent, Run(split={"validation": 0}), False)["train"]
    made = Texts(samples, family, family.load(str(folder), LoadOptions()), 2048, False)
    with pytest.raises(ValueError, match=r"train\.model_name: not even the .* UndefinedError"):
        made[[0, 1]]


def sampler(reader: Reader) -> DistributedBatchSampler:
    return DistributedBatchSampler(reader.samples, 2, 2, 0, 1, 0, False, 0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_stops_a_run_comes_as_itself_out_of_a_worker(
    num_workers: int, blip: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", "/mnt/disk")

    monkeypatch.setattr(Texts, "read", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        next(data.training(blip, sampler(blip), num_workers, pin=False))
    assert (caught.value.errno, caught.value.filename) == (5, "/mnt/disk")


def test_a_worker_that_is_killed_is_the_machines_trouble(
    blip: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Texts, "read", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(MachineError, match="reading ahead"):
        next(data.training(blip, sampler(blip), 1, pin=False))


def test_samples_that_do_not_go_together_go_alone(
    blip: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Texts.collated

    def picky(self: Texts, read: list[Any]) -> list[Any]:
        if any(one is guilty for one in read):
            raise IndexError("no such thing")
        return original(self, read)

    read = Texts.read
    made = {number: read(blip, number) for number in (0, 3, 6)}
    guilty = made[3]
    monkeypatch.setattr(Texts, "read", lambda self, number: made[number])
    monkeypatch.setattr(Texts, "collated", picky)
    taken = blip[[0, 3, 6]]
    assert [len(batch.tensors["labels"]) for batch in taken.batches] == [1, 1]
    assert taken.reasons == [f"video {blip.samples.video(3)}: unexpected IndexError: no such thing"]


def test_a_clip_that_a_family_refuses_is_skipped_before_the_device_sees_it(
    manifest: Path,
) -> None:
    """SVD takes the rate from two frames or more."""
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    entries[0]["meta"]["frame_times"] = [0.0]
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    run = Run(split={"validation": 0}, clip={"num_frames": 2, "sizes": [[16, 16]]})
    svd = StableVideoDiffusion()
    samples = dataset.read(manifest, manifest.parent, run, False, svd.needs)["train"]
    clips = Clips(samples, svd, Loaded(None, None), 0.0, None)
    taken = clips[[0, 1]]
    assert [len(batch.tensors["clips"]) for batch in taken.batches] == [1]
    assert taken.reasons == [
        f"video {samples.video(0)}: frames at [0.0] s have no rate; expected two"
    ]


def test_the_commonest_size_is_that_of_a_video() -> None:
    red, tall = Image.new("RGB", (40, 20), (255, 0, 0)), Image.new("RGB", (10, 20), (0, 255, 0))
    images = prompts.of_one_size([tall, red, red])
    assert [image.size for image in images] == [(40, 20)] * 3
    assert images[0].getpixel((20, 10)) == (0, 255, 0)
    assert images[0].getpixel((1, 10)) == (0, 0, 0)
