"""The examples as they stand: from videos to the weights that each says it trains.

Tiny checkpoints stand in for those of the hub, and a CPU gets smaller clips and fewer updates.
"""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from spark_trainer.system import gpu
from tests import ffmpeg
from tests.families import tiny, tiny_pipelines
from tests.whisper_weights import base as whisper_base

from .clone import Clone, Trained
from .pages import ROOT, commands, python_block

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(gpu.visible()), reason="this machine has a GPU"),
]
SPEAKER = ROOT / "tests/assets/speaker.mp4"
CLIPS = ("cup", "globe-reading", "title", "bunny")
READING = ROOT / "config/demo/clips/globe-reading.mp4"  # with sound
COPIES = 3  # of each clip, every one of another content
SECONDS = 5
BLIP = "Salesforce/blip-image-captioning-base"
HERE: dict[str, Any] = {
    "caption": {"device": "auto", "max_new_tokens": 8},
    "transcript": {"device": "auto", "backend": "faster-whisper"},
    "pose": {"device": "auto"},
    "train": {
        "allow_cpu": True,
        "min_gpus": 0,
        "num_workers": 0,
        "split": {"validation": 0.2, "seed": 1},
    },
}
SHORT: dict[str, Any] = {"max_steps": 1, "num_sampling_steps": 2, "num_samples": 1}
ADAPTED = r"(language_model\.)?(model\.)?(language_model\.)?layers\..*(q|k|v|o|gate|up|down)_proj"


@dataclass(frozen=True)
class Example:
    """An example, what stands in for its model, and what must have come of it.

    `learnt` is an expression over the names of the weights that may move, in the folder `part` of
    `final/`; `here` what it trains with besides on a CPU.
    """

    path: str
    stand_in: Callable[[Path], Path]
    learnt: str
    samples: int  # an update
    frames: int = 1  # of a video that are samples of their own
    part: str = ""
    here: dict[str, Any] = field(default_factory=dict)
    run: str = "default"

    @property
    def asked(self) -> dict[str, Any]:
        """What its file says of training."""
        text = (ROOT / "config" / self.path).read_text(encoding="utf-8")
        train = yaml.safe_load(text)["train"]
        runs = train.pop("runs", {})
        return {**train, **runs.get(self.run, {})}


TEXT = [
    Example("examples/blip.yaml", tiny.blip, ".*", 32, frames=4),
    Example("examples/blip2.yaml", tiny.blip2, "qformer|query_tokens|language_projection", 32, 4),
    Example("examples/internvl.yaml", tiny.internvl, ADAPTED, 16),
    Example("examples/qwen2_vl.yaml", tiny.qwen2_vl, ADAPTED, 32),
    Example("examples/llava.yaml", tiny.llava_onevision, ADAPTED, 16),
    Example("train_vl_example.yaml", tiny.qwen2_vl, ADAPTED, 64, run="fast"),
]
SVD = partial(
    Example,
    stand_in=partial(tiny_pipelines.svd, halvings=3),  # with one a sample takes 5 s
    learnt=".*temporal|.*time_mixer|.*time_pos_embed",
    part="unet",
    here=SHORT | {"clip": {"sizes": [[64, 64]]}},
)
FILMS = [
    SVD("examples/svd.yaml", samples=16, here=SVD.keywords["here"] | {"max_steps": 2}),
    SVD("train_diffusion_example.yaml", samples=8),
]


ANIMATEDIFF = Example(
    "examples/animatediff.yaml",
    lambda folder: folder,  # the page's own code makes it
    ".*",
    samples=32,
    part="motion_adapter",
    here=SHORT | {"clip": {"sizes": [[32, 32]]}},
)
WAN = Example(
    "examples/wan_animate.yaml",
    tiny_pipelines.wan_animate,
    "",
    samples=8,
    here=SHORT | {"clip": {"sizes": [[32, 32]]}},
)
# Random weights never say what the rewards compare with.
LETTERS = "def letters(completions):\n    return [len(set(text)) / 10 for text in completions]\n"
GRPO = Example(
    "examples/grpo.yaml",
    tiny.qwen2_vl,
    ADAPTED,
    samples=8,
    here={
        "rft": {"reward_funcs": ["letters.py:letters"], "max_completion_length": 8},
        "max_steps": 2,
        "learning_rate": 0.001,
        "final": "last",
    },
)
PREPARING = "preprocess_example.yaml"
WHISPER = Example(
    "examples/whisper.yaml",
    tiny.whisper,
    r"model\.decoder.*",
    samples=16,
    here={
        "max_steps": 2,
        "num_samples": 1,
        "mixed_precision": "no",
        "split": {"validation": 0, "validation_paths": ["*-1.mp4"]},
    },
)
SHOWN = {example.path for example in (*TEXT, *FILMS, GRPO, ANIMATEDIFF, WAN, WHISPER)} | {PREPARING}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with videos, and with what stands in for the models that prepare them."""
    made = Clone.of(tmp_path_factory.mktemp("clone"))
    for name in CLIPS:
        write_copies(made, ROOT / f"config/demo/clips/{name}.mp4", vf="scale=160:-2")
    made.stand_in(BLIP, tiny.blip)
    made.stand_in("Systran/faster-whisper-base", whisper_base)
    return made


def write_copies(clone: Clone, source: Path, copies: int = COPIES, **options: str) -> None:
    """Write the beginning of a clip several times, with another hash each."""
    (clone.folder / "videos").mkdir(exist_ok=True)
    path = clone.folder / "videos" / f"{source.stem}.mp4"
    again = ffmpeg.read(source, stream_loop=-1)
    ffmpeg.write(again.output(str(path), t=SECONDS, vcodec="mpeg4", acodec="aac", **options))
    for number in range(1, copies):
        free = struct.pack(">I4sI", 12, b"free", number)  # a box that players skip
        path.with_stem(f"{path.stem}-{number}").write_bytes(path.read_bytes() + free)


def run(clone: Clone, example: Example) -> tuple[Trained, Path]:
    """Type the command of an example; returns its run, and the weights that it began from."""
    asked = example.asked
    start = clone.stand_in(asked["model_name"], example.stand_in)
    [line] = [line for line in commands() if f"--configfile config/{example.path}" in line]
    runs = f"runs/{Path(example.path).stem}"
    here = HERE | {"train": HERE["train"] | example.here | {"output_dir": runs}}
    clone.type(f"{line} --config {overlay(here)}")
    return clone.trained(example.run, runs), start


def overlay(here: dict[str, Any]) -> str:
    """Spell settings as words for `--config`."""
    return " ".join(f"'{key}={json.dumps(value)}'" for key, value in here.items())


def check(example: Example, made: Trained) -> None:
    """Show that it trained by what its file says, as often as that means for these videos."""
    asked, done = example.asked, made.settings
    for key in asked.keys() - example.here.keys() - HERE["train"].keys():
        if isinstance(asked[key], dict):
            assert asked[key].items() <= done[key].items(), key
        else:
            assert done[key] == asked[key], key
    several = done["batch_size"] * done["gradient_accumulation_steps"] * done["gpus"]
    assert (done["global_batch_size"] or several) == example.samples
    samples = example.frames * len(made.videos)
    epochs = math.ceil(done["num_epochs"] * samples / example.samples)
    assert len(made.updates) == (done["max_steps"] or epochs)
    [summary] = [json.loads((made.folder / "trained.json").read_text())]
    assert summary["skipped_samples"] == summary["left_out_videos"] == 0
    assert summary["steps"] == len(made.updates)


@pytest.mark.parametrize("example", TEXT, ids=lambda example: example.path)
def test_it_trains_the_model_that_it_names(clone: Clone, example: Example) -> None:
    made, start = run(clone, example)
    check(example, made)
    if example.asked.get("save") == "adapter":
        assert (made.folder / "final/adapter_model.safetensors").is_file()
        assert not (made.folder / "final/model.safetensors").exists()
    else:
        made.learnt(start, example.learnt)


def test_it_learns_from_rewards(clone: Clone) -> None:
    (clone.folder / "letters.py").write_text(LETTERS)
    made, start = run(clone, GRPO)
    check(GRPO, made)
    assert made.settings["rft"]["num_generations"] == GRPO.asked["rft"]["num_generations"]
    assert all(line["reward"] > 0 for line in made.updates)
    made.learnt(start, GRPO.learnt)


@pytest.mark.parametrize("example", FILMS, ids=lambda example: example.path)
def test_it_trains_what_makes_videos(clone: Clone, example: Example) -> None:
    made, start = run(clone, example)
    check(example, made)
    made.learnt(start, example.learnt, example.part)
    assert list(made.folder.glob("samples/*/*.mp4"))


def test_animatediff_from_the_pages_own_pipeline(clone: Clone) -> None:
    """The page's code puts the folder together of which the example trains the motion modules."""
    clone.stand_in("guoyww/animatediff-motion-adapter-v1-5-2", tiny_pipelines.motion_adapter)
    clone.stand_in("stable-diffusion-v1-5/stable-diffusion-v1-5", tiny_pipelines.stable_diffusion)
    code = clone.folder / "pipeline.py"
    code.write_text(python_block("training.md", "adapter = MotionAdapter"))
    clone.type(f"python {code.name}")
    made, start = run(clone, ANIMATEDIFF)
    check(ANIMATEDIFF, made)
    made.learnt(start, ANIMATEDIFF.learnt, ANIMATEDIFF.part)
    assert not (made.folder / "final/unet").exists()


def test_wan_animate_from_raw_video(tmp_path: Path) -> None:
    clone = Clone.of(tmp_path)
    clone.stand_in(BLIP, tiny.blip)
    clone.stand_in("Systran/faster-whisper-base", whisper_base)
    write_copies(clone, SPEAKER, copies=5)  # of three none would be held out
    made, _ = run(clone, WAN)
    check(WAN, made)
    assert list(made.folder.glob("final/*lora*.safetensors"))
    assert not (made.folder / "final/transformer").exists()
    assert list(made.folder.glob("samples/*/*.mp4"))


def test_whisper_from_videos_and_subtitles(tmp_path: Path) -> None:
    clone = Clone.of(tmp_path)
    write_copies(clone, READING, vf="scale=160:-2")
    subtitles = clone.folder / "data/subtitles"
    subtitles.mkdir(parents=True)
    for video in (clone.folder / "videos").iterdir():
        cue = "1\n00:00:00,500 --> 00:00:03,000\nSomebody speaks.\n"
        (subtitles / f"{video.stem}.srt").write_text(cue)
    made, start = run(clone, WHISPER)
    check(WHISPER, made)
    made.learnt(start, WHISPER.learnt)
    assert (made.folder / "final/ct2/model.bin").is_file()
    assert (made.folder / "final/openai.pt").is_file()


def test_the_preparing_example(clone: Clone) -> None:
    """Its manifest, and the page's code that reads it as a data set."""
    [line] = [line for line in commands() if PREPARING in line]
    here = {key: HERE[key] for key in ("caption", "transcript")}
    clone.type(f"{line} --config {overlay(here)}")
    lines = clone.manifest()
    assert len(lines) == len(CLIPS) * COPIES
    assert all(one["meta"]["captioner"] == "blip" for one in lines)
    assert all(len(one["meta"]["frame_times"]) == SECONDS for one in lines)
    names = {one["meta"]["source_path"]: one["meta"]["transcript"] for one in lines}
    assert "dashwood" in names["globe-reading.mp4"].lower()
    pytest.importorskip("datasets")
    code = python_block("training.md", "from datasets import").replace(
        "load_dataset(", "d = load_dataset("
    )
    (clone.folder / "read.py").write_text(code + "\nprint(d['train'].num_rows)\n")
    assert clone.type("python read.py").stdout.split()[-1] == str(len(lines))
